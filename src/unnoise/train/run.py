"""A whole training run in a folder: fit, and around it logs, validation, checkpoints, resuming, roll-back,
the final model.

    DIR/recipe.json    what is being trained (a resume with another recipe is refused)
    DIR/log.jsonl      one object every few steps, and one for each validation, skipped step and roll-back; a
                       checkpoint holds how many lines it had then, so that a resumed run's log is that of a
                       run left in peace
    DIR/checkpoints/   step-…/ : raw, ema0, ema1, optimizer, state, manifest
    DIR/samples/       grids of samples
    DIR/model/         the result, in the published folder layout (for a classifier: weights and config)

With several processes the main one alone writes, and all stop together: what one of them meets is agreed on
after each step.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from unnoise.base import stop
from unnoise.base.errors import BadInput
from unnoise.base.lock import alone
from unnoise.train import checkpoint
from unnoise.train.fit import Run, Step, fit, prepare
from unnoise.train.folder import check_folder, claim
from unnoise.train.log import Log
from unnoise.train.recipe import Recipe
from unnoise.train.validation import Validation, sheet

MAX_ROLLBACKS = 3
Report = Callable[[Step, int], None]  # called after every step with it and the number of steps in all


class Interrupted(KeyboardInterrupt):
    """Training was stopped by a signal; the message says which step is saved."""


class Terminated(Interrupted, stop.Terminated):
    """It was SIGTERM."""


def train(
    recipe: Recipe,
    folder: str | Path,
    resume: bool = False,
    report: Report | None = None,
    accelerator=None,
    seconds: float | None = None,
) -> dict:
    """Train `recipe` in `folder`; returns what it came to:

    steps, loss (of the last step, None when none was left), raw_sha256, ema0_sha256, ema1_sha256, ema_sha256
    (that of the exported average), rollbacks, seconds; on the main process also validation and folder (of the
    model).

    seconds: after so many since the call began it ends as if that had been the last step: saved, judged and
    exported, and resume goes on. resume continues from the newest valid checkpoint (from the start when there
    is none). BadInput: the folder holds another run, is another process's, cannot be written, or training
    keeps producing non-finite numbers. Interrupted (a KeyboardInterrupt) on SIGINT and SIGTERM (then it is
    Terminated), after saving; a second SIGINT does not wait for that.
    """
    folder, began = Path(folder), time.perf_counter()
    check_folder(folder, recipe, resume)
    with _opened(recipe, folder, resume, accelerator) as session:
        last = session.steps(report, began, seconds)
        result = session.finish()
    return {
        "steps": session.run.step,
        "loss": last and last.loss,
        **result,
        "rollbacks": session.run.rollbacks,
        "seconds": round(time.perf_counter() - began, 3),
    }


@contextmanager
def _opened(recipe: Recipe, folder: Path, resume: bool, accelerator: Any) -> Iterator[_Session]:
    """A run in its folder. A signal is told as Interrupted; the folder is given back in any case."""
    session: _Session | None = None
    try:
        session = _Session(prepare(recipe, accelerator), folder, resume)
        yield session
    except Interrupted:
        raise
    except KeyboardInterrupt as e:
        raise _interrupted(e, session, recipe.train.steps) from None
    finally:
        if session:
            session.close()


def _interrupted(e: KeyboardInterrupt, session: _Session | None, steps: int) -> Interrupted:
    """The same signal with what is saved, and how to go on."""
    kind = Terminated if isinstance(e, stop.Terminated) else Interrupted
    if session is None:
        return kind("stopped before the first step: the folder is as it was")
    saved = f"step {session.saved} is saved" if session.saved else "none is saved yet"
    return kind(f"stopped after step {session.run.step} of {steps}; {saved}, --resume continues")


class _Session:
    """A run in its folder: what happens around the steps. Every process has one, the main one's writes."""

    log: Log  # these three on the main process alone
    validation: Validation
    held: ExitStack  # the folder's lock

    def __init__(self, run: Run, folder: Path, resume: bool):
        self.run, self.folder, self.points = run, folder, folder / "checkpoints"
        self.main, self.bad, self.saved, self.held = run.accelerator.is_main_process, 0, run.step, ExitStack()
        try:
            self.together(lambda: self._take(resume))
            state = self._restore() if resume else {}
            self.together(lambda: self._open(state.get("log")))
        except BaseException:
            self.close()
            raise

    def _take(self, resume: bool) -> None:
        """Hold the folder for this run alone; what was true of it before may have changed until then."""
        self.held.enter_context(alone(self.folder, "training"))
        check_folder(self.folder, self.run.recipe, resume)

    def _restore(self) -> dict:
        """Go to the newest whole checkpoint; returns its state, {} for none: then the run begins anew, which
        is said.
        """
        found = checkpoint.newest(self.points, needs=self.run.parts())
        if found is None:
            if self.main and any(self.points.glob("step-*")):
                print(f"no checkpoint in {self.points} is whole: training begins anew", file=sys.stderr)
            return {}
        self.run.restore(*found)
        self.saved = self.run.step
        return found[1]

    def _open(self, lines: int | None) -> None:
        self.validation = Validation(self.run)
        claim(self.folder, self.run.recipe)
        self.log = Log(self.folder, self.run.step, self.run.recipe.log.tensorboard, lines)

    def together(self, act: Callable[[], object]) -> None:
        """`act` on the main process; what fails there fails everywhere."""
        error = None
        if self.main:
            try:
                act()
            except BadInput as e:
                error = e
        if _any(self.run.accelerator, error is not None):
            raise error or BadInput("the main process failed: its message says why")

    def steps(self, report: Report | None, began: float, seconds: float | None) -> Step | None:
        """All steps that are left, or as many as there is time for; returns the last, None where there was
        none. Interrupted: see `train`.
        """
        s = None
        with _signals() as got:
            for s in fit(self.run):
                if report:
                    report(s, self.run.recipe.train.steps)
                self.after(s, got)
                if self.over(began, seconds):
                    break
        return s

    def after(self, s: Step, got: list[int]) -> None:
        """Everything that follows a step. Interrupted when this or another process was told to stop; `got`:
        the signals so far.
        """
        stopped, r = _any(self.run.accelerator, bool(got)), self.run.recipe
        self.bad = self.bad + 1 if s.bad else 0
        due = not self.bad and (stopped or s.step == r.train.steps or s.step % r.log.save == 0)
        sick = s.bad if self.bad >= r.train.bad_steps else None
        if due:
            sick = _sick(self.run)
        self.together(lambda: self._record(s, due and not sick))
        if due and not sick:
            self.saved = s.step
        if sick:
            self._roll_back(sick, s.step)
        if stopped:
            by = stop.Terminated() if got and got[0] == signal.SIGTERM else KeyboardInterrupt()
            raise _interrupted(by, self, r.train.steps)

    def over(self, began: float, seconds: float | None) -> bool:
        """Whether the time is up, for all processes when it is for one."""
        return seconds is not None and _any(self.run.accelerator, time.perf_counter() - began >= seconds)

    def _record(self, s: Step, save: bool) -> None:
        every = self.run.recipe.log
        if s.bad:
            self.log.write("skipped", s.step, tensor=s.bad)
        elif s.step % every.every == 0:
            self.log.write(
                "train",
                s.step,
                loss=s.loss,
                lr=s.lr,
                grad_norm=s.grad_norm,
                images_per_s=s.images / s.seconds,
            )
        if s.step % every.validate_every == 0:
            self.log.write("validation", s.step, **self.validation(self.run))
        if every.sample and s.step % every.sample == 0:
            sheet(self.run, self.folder / "samples" / f"{s.step:08d}.png")
        if save:
            self.save()  # last: what a step leaves is there once the step is saved, or made again

    def save(self) -> None:
        every = self.run.recipe.log
        self.log.flush()
        state = {**self.run.state(), "log": self.log.lines}
        checkpoint.write(self.points, self.run.step, self.run.parts(), state, every.keep, every.save)

    def _roll_back(self, tensor: str, step: int) -> None:
        """Return to the newest checkpoint, with fresh draws from there on; give up when that has not
        helped.
        """
        tries = self.run.rollbacks + 1
        if tries > MAX_ROLLBACKS:
            raise BadInput(
                f"training diverged: {tensor} is not finite at step {step}, after {MAX_ROLLBACKS} roll-backs;"
                f" lower train.lr (given {self.run.recipe.train.lr:g}) or check the data"
            )
        found = checkpoint.newest(
            self.points, self.run.recipe.log.save, self.run.parts()
        )  # not one that a signal made: as in a run left in peace
        if found is None:
            fresh = prepare(self.run.recipe, self.run.accelerator)
            found = fresh.parts(), fresh.state()
        self.run.restore(*found)
        self.run.rollbacks, self.bad, self.saved = tries, 0, self.run.step
        self.together(lambda: self.log.write("rollback", step, to=self.run.step, tensor=tensor))

    def finish(self) -> dict:
        """Save what is not saved yet, judge, export; returns the result's entries."""
        run, result = self.run, {}
        result["raw_sha256"] = checkpoint.weights_hash(run.net.state_dict())
        for i, e in enumerate(run.ema):
            result[f"ema{i}_sha256"] = checkpoint.weights_hash(e.weights)
        result["ema_sha256"] = result["ema1_sha256" if run.recipe.train.export == "ema1" else "ema0_sha256"]
        self.together(lambda: result.update(self._result()))
        return result

    def _result(self) -> dict:
        if self.saved != self.run.step:
            self.save()
        values = self.validation(self.run)
        self.log.write("final", self.run.step, **values)
        model = export(self.run, self.folder / "model")
        sheet(self.run, self.folder / "samples" / "final.png")
        return {"validation": values, "folder": str(model)}

    def close(self) -> None:
        if self.run.ahead:
            self.run.ahead.close()
        if hasattr(self, "log"):
            self.log.close()
        self.held.close()


def _any(accelerator: Any, flag: bool) -> bool:
    """Whether any process raised the flag: all act as one, or one would wait for the others for ever."""
    if accelerator.num_processes == 1:
        return flag
    return bool(accelerator.reduce(torch.tensor(float(flag), device=accelerator.device), "sum") > 0)


def _sick(run: Run) -> str | None:
    """The first weight of any track that is not finite: a finite gradient can still lead there."""
    params = [
        n for n, _ in run.net.named_parameters()
    ]  # not buffers: those may differ from process to process
    tracks = {"raw": run.net.state_dict(), **{f"ema{i}": e.weights for i, e in enumerate(run.ema)}}
    return checkpoint.first_nonfinite((f"{track}/{n}", w[n]) for track, w in tracks.items() for n in params)


@contextmanager
def _signals() -> Iterator[list[int]]:
    """SIGINT and SIGTERM only note themselves here, so that no step is cut in half; Ctrl-C again, a second
    later, cuts.
    """
    got: list[int] = []
    note, old = _noting(got), {}
    with suppress(ValueError):  # not the main thread: its owner handles signals
        for sig in (signal.SIGINT, signal.SIGTERM):
            old[sig] = signal.signal(sig, note)
    try:
        yield got
    finally:
        for sig, handler in old.items():
            signal.signal(sig, handler)


def _noting(got: list[int]) -> Callable[[int, object], None]:
    """A handler that puts the numbers of signals into `got`."""
    first: list[float] = []

    def note(number: int, _: object) -> None:
        if got and number == signal.SIGINT and time.monotonic() - first[0] > 1:
            raise KeyboardInterrupt
        got.append(number)
        first.append(time.monotonic())

    return note


def weights(run: Run, which: str) -> dict[str, torch.Tensor]:
    """The raw or one of the averaged state dicts of a run: "raw", "ema0", "ema1"."""
    return run.net.state_dict() if which == "raw" else run.ema[int(which[-1])].weights


def export(run: Run, folder: Path) -> Path:
    """Write the model of a run that is over, and saved: from then on its network holds what is exported."""
    run.net.load_state_dict(weights(run, run.recipe.train.export))
    run.net.eval()
    return run.task.save(run.net, run.source, run.recipe.name, folder)
