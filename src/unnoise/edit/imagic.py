"""Imagic (Kawar et al. 2023): another pose, colour or shape of the very thing in a picture, as one sentence
says it.

    imagic(pipe, "dog.png", "a dog lying down", eta=(0.2, 0.4, 0.6, 0.8))

    1  embedding   e_opt = argmin_e E |f(alpha x0 + sigma eps; e) - target|^2, from the prompt's e_tgt: what
                   the picture is called
    2  network     the same loss over the weights, at e_opt: the picture comes back whole
    3  drawing     e = eta e_tgt + (1 - eta) e_opt, under the tuned weights: 0 is the picture again, 1 the
                   prompt

The tuned weights are a copy: the model stays as it is. Levels and noise of step k come from (seed, stage, k),
and a state is written every so many steps, whole or not at all: a run that was killed goes on where it was,
to the same result. When the training is done, its result takes the place of the network's state in the work
folder: what every weight was moved by, in half precision (2 bytes a weight; the state had 12). Every drawing,
the first too, adds that to the model's weights, so that other etas, seeds and steps, and a replay, cost
drawing alone. The prompt's loss needs a text encoder.

The defaults fit the small default model. For Stable Diffusion the authors' figures are embedding_steps 1000
at 2e-3 and tuning_steps 1500 at 5e-7.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from unnoise.base import arguments, write
from unnoise.base.errors import BadInput
from unnoise.base.text import short
from unnoise.codec import is_of_pictures
from unnoise.edit.picture import Given
from unnoise.edit.run import SIZES, Progress, Run, begin
from unnoise.hub import weights
from unnoise.nets.unet import Prepared
from unnoise.pipeline import Count, Pipeline, Request, Result, make_folder
from unnoise.process.level import Level

ETAS = (0.2, 0.4, 0.6, 0.8)
EVERY = 20  # steps between two states
Stage = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Training:
    """How the first two stages are trained: steps and rates of Adam, levels a step, and the seed of their
    noise.
    """

    embedding_steps: int = 100
    embedding_rate: float = 5e-3
    tuning_steps: int = 100
    tuning_rate: float = 1e-4
    levels: int = 8
    train_seed: int = 0

    def __post_init__(self):
        for k in ("embedding_steps", "tuning_steps", "levels", "train_seed"):
            object.__setattr__(self, k, arguments.integer(k, getattr(self, k), int(k == "levels"), 2**31))
        for k in ("embedding_rate", "tuning_rate"):
            object.__setattr__(self, k, arguments.number(k, getattr(self, k), most=1, above=0))


@dataclass(frozen=True)
class Swept(Result):
    """A Result whose pictures differ in eta, then in seed: a labelled grid, and files named by both."""

    etas: tuple[float, ...] = ()

    def grid(self, columns: int | None = None) -> Image.Image:
        """A row a seed, a column an eta."""
        from unnoise.show import sheet

        e, n = len(self.etas), len(self.seeds) // len(self.etas)
        return sheet(
            [[self.images[j * n + i] for j in range(e)] for i in range(n)],
            [f"{v:g}" for v in self.etas],
            [str(s) for s in self.seeds[:n]],
            "",
            "eta",
        )

    def labels(self) -> list[str]:
        """Files are named by eta and seed."""
        if len(self.seeds) == 1:
            return super().labels()
        n = len(self.seeds) // len(self.etas)
        return [f"eta{self.etas[i // n]:g}-{seed}" for i, seed in enumerate(self.seeds)]

    def grid_recipe(self) -> dict[str, Any]:
        """The table's own recipe says that it is a sweep."""
        return {"sweep": {"eta": list(self.etas)}}


def imagic(
    pipe: Pipeline,
    image: Given,
    prompt: str | None = None,
    *,
    eta: float | Sequence[float] = ETAS,
    embedding_steps: int = 100,
    embedding_rate: float = 5e-3,
    tuning_steps: int = 100,
    tuning_rate: float = 1e-4,
    levels: int = 8,
    train_seed: int = 0,
    work: str | os.PathLike | None = None,
    stage: Stage | None = None,
    **how: Any,
) -> Swept:
    """Pictures of the image's size at each eta (and seed), etas first; `grid` shows them as a table.

    eta: 0 to 1, where to draw between the picture (0) and the prompt (1); a little beyond is allowed. The
    rest of the training is that of `Training`. work: the folder of its states, by default one in the cache,
    by content. stage(name, done, of): where the training is. how: what `edit.run.begin` takes; progress is
    also told of the training's steps. nfe: calls an image, training left out. Errors: BadInput.
    """
    t = Training(embedding_steps, embedding_rate, tuning_steps, tuning_rate, levels, train_seed)
    etas = _etas(eta)
    _check(pipe, work)
    sizes = {k: how.get(k) for k in SIZES}
    run = begin(pipe, "imagic", image, prompt, [{**t.__dict__, **sizes, "eta": v} for v in etas], how)
    if len({*run.request.prompts}) > 1 or not run.request.prompts[0]:
        raise BadInput("Imagic needs one prompt: what the picture shall show")
    target = _target(pipe, run.request)
    tell = _teller(run.progress, stage)
    best, net = trained(pipe, run.encoded(), target, t, _folder(work, _about(run, target, t)), tell)
    x, nfe = _drawn(pipe, run, [(1 - v) * best + v * target for v in etas], net)
    return run.result(run.pictures(x), nfe, Swept, etas=etas)


def _check(pipe: Pipeline, work: Any) -> None:
    if work is not None and not isinstance(work, str | os.PathLike):
        raise BadInput(f"work must name a folder, given {short(work)}")
    if not is_of_pictures(pipe.codec) or pipe.text is None:
        raise BadInput(f"model {pipe.name!r} has no text encoder, whose words Imagic moves between")


def _about(run: Run, target: Tensor, t: Training) -> dict[str, Any]:
    """What the training depends on."""
    return {
        "model": run.pipe.sha256,
        "picture": run.picture.sha256,
        "prompt": run.request.prompts[0],
        "size": list(run.size or run.picture.size),
        "tokens": target.shape[1],
        "clip_skip": run.request.clip_skip,
        **t.__dict__,
    }


def _etas(given: float | Sequence[float]) -> tuple[float, ...]:
    several = isinstance(given, Sequence) and not isinstance(given, str | bytes)
    items: Sequence[float] = given if several else (given,)  # type: ignore[assignment]
    try:
        values = tuple(arguments.number("eta", v, -1, 2) for v in items)
    except BadInput:
        values = ()
    if not values or len({*values}) < len(values):
        raise BadInput(
            "eta must be different numbers from -1 to 2 (0 is the picture, 1 the prompt), given"
            f" {short(given)}"
        )
    return values


def _target(pipe: Pipeline, r: Request) -> Tensor:
    """The prompt's encoding (1, tokens, width), as many chunks as it is drawn with."""
    from unnoise.text import prompts as prompting

    encoder = pipe.runner.encoder(r.clip_skip)
    parsed = [prompting.parse(p) for p in (r.prompts[0], *r.negatives)]
    if any(p.by_step for p in parsed):
        raise BadInput("Imagic needs a prompt that does not change by step")
    with torch.no_grad():
        return (
            encoder.encode(parsed[:1], chunks=max(map(encoder.chunks, parsed))).float().to(pipe.runner.device)
        )


def _teller(progress: Progress | None, stage: Stage | None) -> Stage:
    def tell(name: str, done: int, of: int) -> None:
        if progress:
            progress(1)
        if stage:
            stage(name, done, of)

    return tell


# --- training -----------------------------------------------------------------------------------------------


def trained(
    pipe: Pipeline, x0: Tensor, target: Tensor, t: Training, work: Path, tell: Stage
) -> tuple[Tensor, nn.Module]:
    """e_opt (1, tokens, width) and the tuned copy of the network, trained or, as far as `work` holds them,
    read.
    """
    net = copy.deepcopy(pipe.net).float().to(pipe.runner.device).eval().requires_grad_(False)

    def loss(context: Tensor, name: str, k: int) -> Tensor:
        at = lambda x, time: net(x, time, context=context.expand(len(x), -1, -1))
        return pipe.process.errors(at, *_draw(pipe, x0, t, name, k)).mean()

    e = target.clone().requires_grad_()
    fit = lambda k: loss(e, "embedding", k)
    state = work / "embedding.safetensors"
    descend({"embedding": e}, fit, t.embedding_steps, t.embedding_rate, state, tell)
    best = e.detach()
    if t.tuning_steps:
        _tuned(pipe, net, lambda k: loss(best, "network", k), t, work, tell)
    return best, net.requires_grad_(False)


def _tuned(
    pipe: Pipeline, net: nn.Module, loss: Callable[[int], Tensor], t: Training, work: Path, tell: Stage
) -> None:
    """The network's weights, trained or, where `work` holds what they were moved by, read."""
    file, state = work / "tuned.safetensors", work / "network.safetensors"
    if not file.is_file():
        net.requires_grad_(True)
        descend(dict(net.named_parameters()), loss, t.tuning_steps, t.tuning_rate, state, tell)
        plain = dict(pipe.net.named_parameters())
        weights.write({k: (p.detach() - plain[k].to(p)).half() for k, p in net.named_parameters()}, file)
    _moved(pipe, net, file)
    state.unlink(missing_ok=True)


def _moved(pipe: Pipeline, net: nn.Module, file: Path) -> None:
    """The network's weights set to the model's and what `file` holds beside them. BadInput: damaged."""
    plain = dict(pipe.net.named_parameters())
    try:
        with safe_open(file, framework="pt") as f, torch.no_grad():
            for k, p in net.named_parameters():
                p.copy_(plain[k].to(p) + f.get_tensor(k).to(p))
    except (SafetensorError, OSError, KeyError, RuntimeError) as e:
        raise BadInput(
            f"{file} is no whole result of this training ({' '.join(str(e).split())[:100]}): remove it to"
            " begin anew"
        ) from None


def _draw(pipe: Pipeline, x0: Tensor, t: Training, name: str, k: int) -> tuple[Tensor, Tensor, Level]:
    """x0, eps and levels of step k: one level of each of `levels` equal parts of the schedule's time."""
    seed = int.from_bytes(hashlib.sha256(f"{t.train_seed} {name} {k}".encode()).digest()[:7], "big")
    g = torch.Generator().manual_seed(seed)
    u = (torch.arange(t.levels) + torch.rand(t.levels, generator=g, dtype=torch.float64)) / t.levels
    eps = torch.randn(t.levels, *x0.shape[1:], generator=g)
    return x0.expand(t.levels, *x0.shape[1:]), eps.to(x0), pipe.schedule.level(u.numpy())


def descend(
    parameters: dict[str, Tensor],
    loss: Callable[[int], Tensor],
    steps: int,
    rate: float,
    file: Path,
    tell: Stage,
) -> None:
    """`steps` steps of Adam on the parameters, in place, from the state in `file` on; the state after every
    EVERY steps and the last.
    """
    optimiser = torch.optim.Adam(parameters.values(), lr=rate)
    for k in range(_resumed(parameters, optimiser, file), steps):
        optimiser.zero_grad(set_to_none=True)
        with torch.enable_grad():
            value = loss(k)
        if not torch.isfinite(value):
            raise BadInput(
                f"training of the {file.stem} diverged at step {k + 1}: use a smaller rate than {rate:g}"
            )
        value.backward()
        optimiser.step()
        tell(file.stem, k + 1, steps)
        if (k + 1) % EVERY == 0 or k + 1 == steps:
            _write(parameters, optimiser, k + 1, file)


def _write(parameters: dict[str, Tensor], optimiser: torch.optim.Adam, step: int, file: Path) -> None:
    tensors = {f"value.{k}": p.detach() for k, p in parameters.items()}
    for k, p in parameters.items():
        if p in optimiser.state:
            tensors |= {f"{m}.{k}": optimiser.state[p][m] for m in ("exp_avg", "exp_avg_sq")}
    weights.write(tensors, file, {"step": str(step)})


def _resumed(parameters: dict[str, Tensor], optimiser: torch.optim.Adam, file: Path) -> int:
    """The step of the state in `file`, put into the parameters and the optimiser; 0 where there is none.
    BadInput: damaged.
    """
    if not file.is_file():
        return 0
    try:
        with safe_open(file, framework="pt") as f, torch.no_grad():
            step, names = int(f.metadata()["step"]), set(f.keys())
            for k, p in parameters.items():
                p.copy_(f.get_tensor(f"value.{k}"))
                if f"exp_avg.{k}" not in names:
                    continue
                moments = {m: f.get_tensor(f"{m}.{k}").to(p) for m in ("exp_avg", "exp_avg_sq")}
                optimiser.state[p] = {"step": torch.tensor(float(step)), **moments}
    except (SafetensorError, OSError, KeyError, RuntimeError, ValueError) as e:
        raise BadInput(
            f"{file} is no whole state of this training ({' '.join(str(e).split())[:100]}): remove it to"
            " begin anew"
        ) from None
    return step


def _folder(work: str | os.PathLike | None, about: dict) -> Path:
    """The folder of the states of one training, made where it is not there. BadInput: it is that of
    another.
    """
    from unnoise.base.cache import cache

    text = json.dumps(about, sort_keys=True)
    folder = Path(work) if work else cache() / "imagic" / hashlib.sha256(text.encode()).hexdigest()[:16]
    make_folder(folder)
    note = folder / "about.json"
    if note.is_file() and note.read_text() != text:
        raise BadInput(
            f"{folder} holds the training of another picture, prompt or setting: name another folder"
        )
    if not note.is_file():
        write.put(note, text.encode())
    return folder


# --- drawing ------------------------------------------------------------------------------------------------


def _drawn(pipe: Pipeline, run: Run, embeddings: Sequence[Tensor], net: nn.Module) -> tuple[Tensor, int]:
    """x0 (etas x images, …) and calls an image: each eta's images in batches, under the tuned network."""
    made = [run.batched(partial(_batch, run, net, e)) for e in embeddings]
    return torch.cat([x for x, _ in made]), made[0][1]


def _batch(run: Run, net: nn.Module, e: Tensor, places: list[int], count: Count) -> Tensor:
    prompted = 0 if run.request.guidance == 0 else len(places)
    return run.finish(places, count, net=_prompted(net, e, prompted))


def _prompted(net: nn.Module, e: Tensor, n: int) -> Callable[..., Tensor]:
    """The network with e (1, tokens, width) in place of the prompt of a call's first n rows; the others are
    the negative prompts.
    """

    def call(x: Tensor, t: Tensor | None, context: Tensor | Prepared) -> Tensor:
        c = context.context if isinstance(context, Prepared) else context
        c = torch.cat([e.expand(n, -1, -1).to(x), c[n:].to(x)])
        with torch.no_grad():
            return net(x, t, context=c)

    return call
