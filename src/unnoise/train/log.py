"""The log of a run: log.jsonl, and TensorBoard where it is installed."""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from unnoise.base import read
from unnoise.base.errors import BadInput
from unnoise.base.write import put


class Log:
    """log.jsonl, cut back to where training resumes from, and TensorBoard where it is installed."""

    def __init__(self, folder: Path, step: int, tensorboard: bool, lines: int | None = None):
        """lines: how many there were at the checkpoint of `step`; None where it does not say: then those up
        to that step are kept.
        """
        self.path, self.board = folder / "log.jsonl", None
        kept = _kept(self.path, step, lines)
        put(self.path, b"".join(kept))
        self.lines = len(kept)
        with _writing(self.path):
            self.file = open(self.path, "a", buffering=1)  # noqa: SIM115 - open as long as the run
        if tensorboard:
            self._board(folder / "tensorboard", step)

    def _board(self, folder: Path, step: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        with _writing(folder):
            self.board = SummaryWriter(str(folder), purge_step=step + 1)

    def write(self, event: str, step: int, **values) -> None:
        """One line, {"event", "step", …values}; the numbers among them go to TensorBoard. BadInput when the
        disk refuses.
        """
        with _writing(self.path):
            self.file.write(json.dumps({"event": event, "step": step, **values}) + "\n")
            self.lines += 1
            for k, v in values.items():
                if self.board and isinstance(v, (int, float)):
                    self.board.add_scalar(f"{event}/{k}", v, step)

    def flush(self) -> None:
        """Put what was written on the disk: a checkpoint counts its lines."""
        with _writing(self.path):
            self.file.flush()
            with suppress(io.UnsupportedOperation):
                os.fsync(self.file.fileno())

    def close(self) -> None:
        with suppress(OSError):
            self.file.close()  # every line is flushed as it is written: nothing is lost
        if self.board:
            with suppress(OSError):
                self.board.close()


def _kept(path: Path, step: int, lines: int | None) -> list[bytes]:
    """The lines, with their ends, that a log keeps when training goes on from `step`."""
    if step == 0 or not path.exists():
        return []
    there = [
        line for line in read.content(path, "log", 2**40).splitlines(keepends=True) if line.endswith(b"\n")
    ]
    if lines is not None and len(there) >= lines:
        return there[:lines]
    return [line for line in there if _step_of(line) <= step]


def _step_of(line: bytes) -> float:
    """The step of a line of the log; infinity where it is none."""
    try:
        step = read.parse_object(line, "log").get("step")
    except BadInput:
        return math.inf
    return step if isinstance(step, int) and not isinstance(step, bool) else math.inf


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as e:
        raise BadInput(f"cannot write {path}: {e.strerror or e}") from e
