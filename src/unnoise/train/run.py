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

import io
import json
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from unnoise.base import read, stop
from unnoise.base.errors import BadInput
from unnoise.base.lock import alone
from unnoise.base.sheet import tile
from unnoise.base.write import new_file, put
from unnoise.codec import Vectors
from unnoise.process import noise
from unnoise.process.level import Level, corrupt
from unnoise.train import checkpoint, inpaint, objective, upscale
from unnoise.train.build import AnySource, Source, held_out
from unnoise.train.fit import Run, Step, fit, prepare
from unnoise.train.recipe import Recipe, parse
from unnoise.train.tasks import TASKS
from unnoise.train.worlds import Items, LatentSource

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
    folder, began, s = Path(folder), time.perf_counter(), None
    _check_folder(folder, recipe, resume)
    session: _Session | None = None
    try:
        session = _Session(prepare(recipe, accelerator), folder, resume)
        with _signals() as got:
            for s in fit(session.run):
                if report:
                    report(s, recipe.train.steps)
                session.after(s, got)
                if session.over(began, seconds):
                    break
        result = session.finish()
    except Interrupted:
        raise
    except KeyboardInterrupt as e:
        raise _interrupted(e, session, recipe.train.steps) from None
    finally:
        if session:
            session.close()
    assert session is not None
    return {
        "steps": session.run.step,
        "loss": s and s.loss,
        **result,
        "rollbacks": session.run.rollbacks,
        "seconds": round(time.perf_counter() - began, 3),
    }


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
        _check_folder(self.folder, self.run.recipe, resume)

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
        _claim(self.folder, self.run.recipe)
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

    def after(self, s: Step, got: list[int]) -> None:
        """Everything that follows a step. Interrupted when this or another process was told to stop; `got`:
        the signals so far.
        """
        told, r = _any(self.run.accelerator, bool(got)), self.run.recipe
        self.bad = self.bad + 1 if s.bad else 0
        due = not self.bad and (told or s.step == r.train.steps or s.step % r.log.save == 0)
        sick = s.bad if self.bad >= r.train.bad_steps else _sick(self.run) if due else None
        self.together(lambda: self._record(s, due and not sick))
        if due and not sick:
            self.saved = s.step
        if sick:
            self._roll_back(sick, s.step)
        if told:
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
            _grid(self.run, self.folder / "samples" / f"{s.step:08d}.png")
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
        model = _export(self.run, self.folder / "model")
        _grid(self.run, self.folder / "samples" / "final.png")
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


# --- the folder ---------------------------------------------------------------------------------------------


def _check_folder(folder: Path, recipe: Recipe, resume: bool) -> None:
    """BadInput when `folder` holds another run, one that was not asked to go on, or something else under our
    names.
    """
    path = folder / "recipe.json"
    if not path.exists():
        for name in ("checkpoints", "log.jsonl", "model", "samples"):
            if (folder / name).exists():
                raise BadInput(
                    f"{folder} holds {name} but no recipe.json: it is not a training run; give another folder"
                )
        return
    if not resume:
        raise BadInput(f"{folder} already holds a run: give --resume to continue it, or another folder")
    try:
        there = parse(read.object_file(path, "recipe"), str(path))
    except BadInput as e:
        raise BadInput(f"cannot read {path}: {e}") from None
    if there != recipe:
        how = _difference(there.model_dump(), recipe.model_dump())
        raise BadInput(f"{folder} holds a run of another recipe ({how}): it can only be resumed with its own")


def _difference(there: dict, given: dict, section: str = "") -> str:
    """The first entry in which two different recipes differ, and both values."""
    key = next(k for k in {**there, **given} if there.get(k) != given.get(k))
    u, v, name = there.get(key), given.get(key), section + key
    if isinstance(u, dict) and isinstance(v, dict):
        return _difference(u, v, f"{name}.")
    return f"{name} is {u!r} there, given {v!r}"


def _claim(folder: Path, recipe: Recipe) -> None:
    """Make `folder` this recipe's."""
    path = folder / "recipe.json"
    if not path.exists():
        put(path, recipe.model_dump_json(indent=1).encode())


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as e:
        raise BadInput(f"cannot write {path}: {e.strerror or e}") from e


@contextmanager
def _signals() -> Iterator[list[int]]:
    """SIGINT and SIGTERM only note themselves here, so that no step is cut in half; Ctrl-C again, a second
    later, cuts.
    """
    got: list[int] = []
    when: list[float] = []

    def note(number: int, _: object) -> None:
        if got and number == signal.SIGINT and time.monotonic() - when[0] > 1:
            raise KeyboardInterrupt
        got.append(number)
        when.append(time.monotonic())

    old = {}
    with suppress(ValueError):  # not the main thread: its owner handles signals
        for sig in (signal.SIGINT, signal.SIGTERM):
            old[sig] = signal.signal(sig, note)
    try:
        yield got
    finally:
        for sig, handler in old.items():
            signal.signal(sig, handler)


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


# --- judging and showing ------------------------------------------------------------------------------------


class Validation:
    """The loss on held-out data with fixed noise: the same at every evaluation of the same weights, to the
    bit.

    Denoising: weighted loss at 8 levels evenly spaced in the schedule's time (`loss_0.0625`, the cleanest,
    …), and its mean. Classification: loss and accuracy; with `net.time` at those levels too, and their means.
    The averaged weights (ema0) are judged.
    """

    levels = 8

    def __init__(self, run: Run):
        self.recipe, recipe = run.recipe, run.recipe
        self.src = held_out(recipe, run.source)
        n = min(recipe.log.validation_samples, len(self.src.data))
        self.index = np.arange(n)  # scenes are in random order as they are
        if (
            isinstance(self.src, Source)
            and isinstance(run.source, Source)
            and self.src.data.split == run.source.data.split
        ):
            print(
                f"{recipe.data.name} holds no other split than {self.src.data.split!r}: validation looks at"
                " training data",
                file=sys.stderr,
            )
        if isinstance(self.src, Source):
            self.index = np.random.Generator(np.random.Philox(recipe.seed)).permutation(len(self.src.data))[
                :n
            ]

    @torch.no_grad()
    def __call__(self, run: Run) -> dict:
        net = lambda *a, **kw: functional_call(run.net, run.ema[0].weights, a, kw)
        run.net.eval()
        device = run.accelerator.device
        totals: dict[str, list[tuple[float, int]]] = {}
        for start in range(0, len(self.index), 256):
            items = self.src.fetch(self.index[start : start + 256], seed=self.recipe.seed).to(device)
            for k, v in self._one(run, net, items, start).items():
                if not math.isnan(v):
                    totals.setdefault(k, []).append((v, len(items.x)))
        run.net.train()
        return {k: round(math.fsum(u * n for u, n in v) / sum(n for _, n in v), 8) for k, v in totals.items()}

    def _one(self, run: Run, net, items: Items, start: int) -> dict:
        task = self.recipe.task
        if task == "denoise":
            return self._denoise(net, items, start)
        if task == "classify" and self.recipe.net.get("time"):
            return self._classify_noisy(net, items, start)
        if task == "classify":
            return self._classify(net, items.x, items.labels)
        with averaged(run) as plain:
            return TASKS[task](self.recipe).validate(plain, items)

    def _denoise(self, net, items: Items, start: int) -> dict:
        process, out, x = objective.resolve(self.recipe.process), {}, items.x
        call = net if items.labels is None else lambda *a: net(*a, labels=items.labels)
        if isinstance(self.src, LatentSource):
            context = self.src.condition(items.more["ids"], torch.zeros(len(x), dtype=torch.bool))
            call = lambda *a: net(*a, context=context)
        if self.recipe.data.low:
            c = upscale.clean(self.recipe, x)
            call, x = upscale.seeing(call, c), upscale.left(x, c)
        if self.recipe.data.masked:
            call = upscale.seeing(
                call, inpaint.drawn(self.recipe, x, "validation", range(start, start + len(x)))
            )
        for u, eps, l in self._noised(process, x, start):
            out[f"loss_{u:.4f}"] = float(process.errors(call, x, eps, l).mean())
        return {"loss": sum(out.values()) / self.levels, **out}

    def _noised(
        self, process: objective.Process, x: Tensor, start: int
    ) -> Iterator[tuple[float, Tensor, Level]]:
        """(u, noise, level u of the schedule for every sample), from clean to noisy."""
        for j in range(self.levels):
            u = (j + 0.5) / self.levels
            eps = noise.draws(self.recipe.seed, f"validation/{j}", range(start, start + len(x)), x.shape[1:])
            yield u, eps.to(x), process.curve.level(np.full(len(x), u))

    def _classify_noisy(self, net, items: Items, start: int) -> dict:
        process, out, x = objective.resolve(self.recipe.process), {}, items.x
        for u, eps, l in self._noised(process, x, start):
            found = self._classify(
                lambda y, l=l: process.classes(net)(y, l), corrupt(x, eps, l), items.labels
            )
            out |= {f"{k}_{u:.4f}": v for k, v in found.items()}
        return {
            **{
                k: sum(v for n, v in out.items() if n.startswith(k)) / self.levels
                for k in ("loss", "accuracy")
            },
            **out,
        }

    def _classify(self, net, x: Tensor, labels: Tensor | None) -> dict:
        assert labels is not None  # `network` makes no classifier without labels
        logits = net(x).float()
        right = (logits.argmax(1) == labels).cpu().double().mean()
        return {"loss": float(F.cross_entropy(logits, labels)), "accuracy": float(right)}


@contextmanager
def averaged(run: Run) -> Iterator[torch.nn.Module]:
    """The run's network with its averaged weights (ema0), for methods that are no forward pass; the raw ones
    afterwards.
    """
    raw = {k: v.clone() for k, v in run.net.state_dict().items()}
    run.net.load_state_dict(run.ema[0].weights)
    try:
        yield run.net
    finally:
        run.net.load_state_dict(raw)


def weights(run: Run, which: str) -> dict[str, Tensor]:
    """The raw or one of the averaged state dicts of a run: "raw", "ema0", "ema1"."""
    return run.net.state_dict() if which == "raw" else run.ema[int(which[-1])].weights


def _export(run: Run, folder: Path) -> Path:
    from unnoise import hub

    if task := TASKS.get(run.recipe.task):
        run.net.load_state_dict(weights(run, run.recipe.train.export))  # the run is over, and saved
        run.net.eval()
        return task(run.recipe).save(run.net, run.source, run.recipe.name, folder)
    return hub.save_run(run, weights(run, run.recipe.train.export), folder)


def _grid(run: Run, path: Path) -> None:
    """Samples of every condition with the averaged weights, 12 DDIM steps without guidance; fixed seeds.
    Images only.
    """
    from PIL import Image

    from unnoise.sample import SAMPLERS, last

    src, recipe, on = run.source, run.recipe, run.accelerator.device
    if recipe.task in TASKS:
        run.net.eval()
        items = _first(held_out(recipe, src), 16).to(on)
        with torch.no_grad(), averaged(run) as net:
            shown = TASKS[recipe.task](recipe).show(net, items)
        run.net.train()
        if shown is None:
            return
        images = src.codec.decode(shown)
    else:
        if recipe.task != "denoise" or isinstance(src.codec, Vectors):
            return
        process = objective.resolve(recipe.process)
        n = 2 * min(len(src.words), 32) if src.labels is not None else 16
        given = {}
        if src.labels is not None:
            given = {"labels": torch.arange(n).to(on) % max(len(src.words), 1)}
        if isinstance(src, LatentSource):
            given = {
                "context": src.condition(_first(src, n).more["ids"].to(on), torch.zeros(n, dtype=torch.bool))
            }
        run.net.eval()
        net = lambda x, t: functional_call(run.net, run.ema[0].weights, (x, t), given)
        condition = (
            upscale.clean(recipe, _first(held_out(recipe, src), n).x.to(on)) if recipe.data.low else None
        )
        if condition is not None:
            net = upscale.seeing(net, condition)
        if recipe.data.masked:
            net = upscale.seeing(
                net, inpaint.drawn(recipe, _first(held_out(recipe, src), n).x.to(on), "shown", range(n))
            )
        x = noise.seeded(range(n), "init")(torch.zeros(src.codec.shape(n), device=on))
        with torch.no_grad():
            out = last(SAMPLERS["ddim"](process.denoiser(net), x, process.curve.path(12)))
        run.net.train()
        if condition is not None:
            out = upscale.whole(out, condition)
        images = src.codec.decode(out.nan_to_num())
    with new_file(path) as part:
        Image.fromarray(tile(images)).save(part, format="png")


def _first(src: AnySource, n: int) -> Items:
    """The first n items; of a set with fewer, some of them again."""
    return src.fetch(np.arange(n) % len(src.data))
