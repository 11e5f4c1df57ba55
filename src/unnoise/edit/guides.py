"""Guides by name: what `guide=["color=green:2.0", "clip=a happy face:1"]` and `--guide` mean, built for a
pipeline.

    name=value:weight      weight 1 where it is left out, 0 is off; in the text of `clip` a colon between two
                           digits is the text's own (clip=a clock at 10:30), unless a space stands before it
                           (clip=a house number 7 :2)

    colour=green, #32a541       the object's pixels (what differs from the ground) in a colour of that name;
                                `color` is the same
    mean=#c8dcc8, green         the mean colour of the whole picture
    brightness=.6               its mean luma, 0 to 1
    clip=a happy face           CLIP's cosine to a text, over crops; clip-noised: of the estimate noised to
                                the present level, as in GLIDE
    target=photo.png            the picture itself
    edges=sketch.png            edges where the sketch has them
    style=ref.png               the Gram matrices of the judge's first layers (Gatys et al. 2016)
    judge=a car                 the judge's probability of an answer: a noun, a colour
    smooth                      little total variation

In Python an item may also be a function loss(images (n, 3, h, w) in [0, 1]) -> (n,), or (function, weight);
one that returns a single number, such as `lambda images: images.mean()`, is called with one image at a time,
so that no sample's step depends on another.

`mean` and `style` act where sigma / alpha <= FORMED, the others at every level. The losses are in
`guide.losses`, the step in `guide.steer`; the estimate is decoded inside the gradient. Files are known by
their content: a text that was checked carries it (`photo.png@<16 hex digits>`), so that a recipe made with
another picture of that name is refused.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from unnoise.base import arguments
from unnoise.base.colour import NAMED
from unnoise.base.errors import BadInput, unknown
from unnoise.codec import Latents, Pixels
from unnoise.denoiser import Denoiser
from unnoise.edit.picture import read
from unnoise.guide import losses
from unnoise.guide.scale import number
from unnoise.guide.steer import Wish, steer
from unnoise.process.level import Level

if TYPE_CHECKING:
    from unnoise.hub.parts import Clip
    from unnoise.pipeline import Pipeline, Request
    from unnoise.worlds.judge import Judge

Item = str | Callable[[Tensor], Tensor] | tuple[Callable[[Tensor], Tensor], float]
TOGETHER = 64 * 64 * 64  # pixels whose decoding is differentiated at once
CPU = torch.device("cpu")
FORMED = 1.0  # sigma / alpha: above it what is drawn is still being decided
LATE = (
    "mean",
    "style",
)  # guides of how the whole picture looks: they act from FORMED on, where they cost less of what it shows
_FILE = re.compile(r"(.+)@([0-9a-f]{16})")


@dataclass(frozen=True)
class Guide:
    """A guide understood: name, value and weight of a text, or a function (name "python", value its name)."""

    name: str
    value: str
    weight: float
    loss: Callable[[Tensor], Tensor] | None = None

    @property
    def text(self) -> str:
        """As it is given and stored."""
        short = f"{self.weight:g}"
        weight = short if float(short) == self.weight else repr(self.weight)
        space = " " if self.name in TEXTS and self.value[-1:].isdigit() else ""
        return f"{self.name}={self.value}{space}:{weight}" if self.value else f"{self.name}:{weight}"


def parse(item: Item) -> Guide:
    """A guide from a text "name=value:weight", a function, or (function, weight). BadInput names the nearest
    guide.
    """
    if isinstance(item, Guide):
        return item
    if callable(item):
        item = (item, 1.0)
    if isinstance(item, tuple) and len(item) == 2 and callable(item[0]):
        return Guide(
            "python", getattr(item[0], "__qualname__", type(item[0]).__name__), _weight(item[1]), item[0]
        )
    if not isinstance(item, str):
        raise BadInput(
            "a guide is a text such as 'colour=green:2', a function, or (function, weight), given"
            f" {item!r:.80}"
        )
    name, value, weight = _split(arguments.string("a guide", item))
    if name == "python":
        raise BadInput(
            f"guide {value!r} is a function in Python, which a recipe or a command cannot hold: give the"
            " function itself"
        )
    if name not in GUIDES:
        raise unknown("guide", name, GUIDES)
    if name != "smooth" and not value:
        raise BadInput(f"guide {name!r} needs a value: {name}={EXAMPLES[name]}")
    if name == "smooth" and value:
        raise BadInput(f"guide 'smooth' takes a weight only, as in smooth:0.5, given {item!r}")
    return Guide(name, value, _weight(weight))


def _split(item: str) -> tuple[str, str, float | str]:
    """Name, value and weight of a text. What follows the last colon is the weight where it is a number, but
    in a text for CLIP a colon between two digits is the text's own, as in "clock at 10:30"; a space before it
    makes it the weight's: "number 7 :2".
    """
    left, equals, right = item.partition("=")
    name, given = left.strip().lower(), right if equals else left
    body, colon, tail = given.rpartition(":")
    inside = name in TEXTS and body[-1:].isdigit() and tail[:1].isdigit()
    weighted = bool(colon) and _numeric(tail) and tail == tail.strip() and not inside
    if not weighted:
        body = given
    name, value = (name, body.strip()) if equals else (body.strip().lower(), "")
    return {"color": "colour"}.get(name, name), value, tail if weighted else 1.0


def _numeric(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _weight(given: Any) -> float:
    w = number("a guide's weight", given)
    if w < 0:
        raise BadInput(
            f"a guide's weight must not be negative, given {w:g}: what to avoid belongs in the negative"
            " prompt"
        )
    return w


def settled(pipe: Pipeline, items: Item | Sequence[Item] | None) -> tuple[Guide, ...]:
    """The guides of a request, checked by building them; files by their content. BadInput on whatever cannot
    be used.
    """
    if items is None:
        return ()
    if not isinstance(items, Sequence | Callable):
        raise BadInput(
            f"guide must be a text such as 'colour=green:2', a function, or several, given {items!r:.80}"
        )
    several: list[Any] = [items] if isinstance(items, str) or callable(items) else [*items]
    guides = tuple(_with_content(parse(i)) for i in several)
    for g in guides:
        wish(pipe, g)
    return guides


def _with_content(g: Guide) -> Guide:
    if g.name not in FILES or _FILE.fullmatch(g.value):
        return g
    return Guide(g.name, f"{g.value}@{read(g.value).sha256[:16]}", g.weight)


def guided(pipe: Pipeline, r: Request, denoise: Denoiser) -> Denoiser:
    """The denoiser of a run under its request's guides: itself where none has a weight."""
    wishes = [(wish(pipe, g), g.weight, g.name in LATE) for g in r.guide if g.weight]
    if not wishes:
        return denoise
    h, w = r.size or (getattr(pipe.codec, "height", 1), getattr(pipe.codec, "width", 1))
    decode = pictures(pipe, r.guide_linear)
    steered = lambda some: steer(denoise, some, decode, r.guide_through, max(1, TOGETHER // (h * w)))
    every, early = (
        steered([(f, v) for f, v, _ in wishes]),
        steered([(f, v) for f, v, late in wishes if not late]),
    )
    until = formed(pipe, r)
    return lambda x, l: (every if float(l.ratio.max()) <= until else early)(x, l)


def formed(pipe: Pipeline, r: Request) -> float:
    """FORMED, or the last noisy level of a path that has none below it, as a path of one step."""
    return max(FORMED, float(pipe.path(r)[-2].ratio.max()))


def wish(pipe: Pipeline, g: Guide) -> Wish:
    """What a guide wants, (images, level) -> (n,), ready to be differentiated."""
    if not isinstance(pipe.codec, (Latents, Pixels)):
        raise BadInput(f"model {pipe.name!r} makes numbers: guides are for pictures")
    if g.loss is not None:
        return lambda images, l: _one_each(g, images)
    return GUIDES[g.name](pipe, g.value)


def _one_each(g: Guide, images: Tensor) -> Tensor:
    value = g.loss(images)  # type: ignore[misc]
    if isinstance(value, Tensor) and value.ndim == 0:  # of the whole batch: asked again image by image
        value = (
            value[None] if len(images) == 1 else torch.cat([_one_each(g, image) for image in images.split(1)])
        )
    if not isinstance(value, Tensor) or value.shape != (len(images),):
        got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise BadInput(
            f"guide {g.value!r} must return one number an image, a tensor of shape ({len(images)},), given"
            f" {got}"
        )
    return value


# --- decoding inside the gradient ---------------------------------------------------------------------------


def pictures(pipe: Pipeline, linear: bool = False) -> Callable[[Tensor], Tensor]:
    """x0 -> images (n, 3, h, w) in [0, 1], differentiable: values beyond are cut off, but their slope is
    kept, so that they can come back.

    linear: latents by the affine map to colours that previews use, at one colour a cell, enlarged: far
    cheaper than the decoder.
    """
    codec = pipe.codec
    if isinstance(codec, Pixels):
        shown = lambda x: (
            F.pixel_shuffle(x.float(), codec.patch)[:, :, : codec.height, : codec.width] / 2 + 0.5
        )
    elif isinstance(codec, Latents):
        shown = _linear(codec) if linear else _decoder(codec)
    else:
        raise BadInput(f"model {pipe.name!r} makes numbers: it has no pictures to look at")

    def decode(x0: Tensor) -> Tensor:
        y = shown(x0).expand(-1, 3, -1, -1)
        return y + (y.clamp(0, 1) - y).detach()

    return decode


def _decoder(codec: Latents) -> Callable[[Tensor], Tensor]:
    net = codec.net
    at = next(net.parameters())
    if at.device.type == "cpu" and at.dtype != torch.float32:
        net = copy.deepcopy(net).float()
        at = next(net.parameters())
    return lambda z: net.decode(codec.unscale(z).to(at)).float() / 2 + 0.5


def _linear(codec: Latents) -> Callable[[Tensor], Tensor]:
    from unnoise.look import fit_rgb

    m, f = fit_rgb(codec), codec.net.config.factor

    def shown(z: Tensor) -> Tensor:
        rgb = (
            torch.einsum("nchw,cd->ndhw", z.float(), m[:-1].to(z.device))
            + m[-1].to(z.device)[None, :, None, None]
        )
        return F.interpolate(rgb, scale_factor=f, mode="bilinear")

    return shown


# --- the guides ---------------------------------------------------------------------------------------------


def colour_of(text: str) -> tuple[float, float, float]:
    """A colour by name or as #rrggbb: sRGB in [0, 1]. BadInput names the nearest."""
    if re.fullmatch("#[0-9a-fA-F]{6}", text):
        r, g, b = (int(text[i : i + 2], 16) for i in (1, 3, 5))
    elif (name := text.lower().replace("gray", "grey")) in NAMED:
        r, g, b = NAMED[name]
    elif name == "white":
        r, g, b = 255, 255, 255
    else:
        raise unknown("colour", text, [*NAMED, "white", "#rrggbb"])
    return r / 255, g / 255, b / 255


def _colour(pipe: Pipeline, value: str) -> Wish:
    rgb = colour_of(value)
    return lambda images, l: losses.object_colour(images, rgb)


def _mean(pipe: Pipeline, value: str) -> Wish:
    rgb = colour_of(value)
    return lambda images, l: losses.mean_colour(images, rgb)


def _brightness(pipe: Pipeline, value: str) -> Wish:
    if not _numeric(value) or not 0 <= float(value) <= 1:
        raise BadInput(f"guide brightness must be a number from 0 (black) to 1 (white), given {value!r}")
    return lambda images, l: losses.brightness(images, float(value))


def _smooth(pipe: Pipeline, value: str) -> Wish:
    return lambda images, l: losses.variation(images)


def picture_of(value: str) -> Tensor:
    """The picture (1, 3, h, w) in [0, 1] of a file, named with its content or without. BadInput when that has
    changed.
    """
    named = _FILE.fullmatch(value)
    path = named[1] if named and not Path(value).is_file() else value
    picture = read(path)
    if named and path != value and not picture.sha256.startswith(named[2]):
        raise BadInput(f"the guide's picture {path} has changed since")
    return picture.tensor()


def fitted(images: Tensor, size: Sequence[int]) -> Tensor:
    """(n, 3, h, w) at another (height, width), bilinear with antialiasing; itself where that is its own."""
    if tuple(images.shape[2:]) == tuple(size):
        return images
    return F.interpolate(images, tuple(size), mode="bilinear", antialias=True, align_corners=False)


def _target(pipe: Pipeline, value: str) -> Wish:
    wanted = picture_of(value)
    return lambda images, l: losses.target(images, fitted(wanted, images.shape[2:]).to(images))


def _edges(pipe: Pipeline, value: str) -> Wish:
    sketch = picture_of(value)
    return lambda images, l: losses.edges(images, fitted(sketch, images.shape[2:]).to(images))


def _style(pipe: Pipeline, value: str) -> Wish:
    features = trunk(judge(pipe.runner.device))
    with torch.no_grad():
        wanted = [losses.gram(f) for f in features(picture_of(value))]
    return lambda images, l: losses.style(images, wanted, features)


def trunk(by: Judge) -> Callable[[Tensor], list[Tensor]]:
    """Images (n, 3, h, w) in [0, 1], of any size -> the outputs of the judge's stem and of all its stages but
    the last.
    """
    size, at = (by.codec.height, by.codec.width), next(by.net.parameters())

    def features(images: Tensor) -> list[Tensor]:
        h = F.relu(by.net.stem(fitted(images.to(at), size) * 2 - 1))
        out = [h]
        for stage in by.net.stages[:-1]:
            out.append(h := stage(h))
        return out

    return features


def _judge(pipe: Pipeline, value: str) -> Wish:
    log_prob = (
        _digit(pipe, value)
        if pipe.codec.shape(1)[1] == 1 or getattr(pipe.codec, "channels", 3) == 1
        else _answer(pipe, value)
    )
    return lambda images, l: losses.improbability(images, log_prob)


def _answer(pipe: Pipeline, value: str) -> Callable[[Tensor], Tensor]:
    """log p of a noun, a colour, a count or an orientation by the judge of scenes."""
    from unnoise.data.nouns import phrase

    by = judge(pipe.runner.device)
    known = {
        a: (head, i)
        for head in ("orientation", "count", "colour", "noun")
        if head in by.heads
        for i, a in enumerate(by.heads[head])
    }
    known |= {phrase(a): ("noun", i) for i, a in enumerate(by.heads["noun"])}
    if value not in known:
        raise _not_seen(value, known)
    head, i = known[value]
    size = by.codec.height, by.codec.width
    return lambda images: by.net(fitted(images, size) * 2 - 1)[head].log_softmax(1)[:, i]


def _digit(pipe: Pipeline, value: str) -> Callable[[Tensor], Tensor]:
    """log p of a class by the judge of digits and clothes."""
    from unnoise.text.words import Words
    from unnoise.worlds.judge import load

    by = load()
    i = Words(by.words).label(value)
    size, norm, net = (by.codec.height, by.codec.width), by.codec, by.net.to(pipe.runner.device)
    return lambda images: net(F.pixel_unshuffle(fitted(images[:, :1], size) * 2 - 1, norm.patch)).log_softmax(
        1
    )[:, i]


def _not_seen(value: str, known: Sequence[str] | dict) -> BadInput:
    from difflib import get_close_matches

    near = get_close_matches(value.lower(), list(known), n=3, cutoff=0.5)
    return BadInput(
        f"the judge knows no {value!r}"
        + (f"; did you mean {' or '.join(map(repr, near))}?" if near else f" (it knows {len(known)} answers)")
    )


def _clip(pipe: Pipeline, value: str, noised: bool = False) -> Wish:
    both = clip_for(pipe)
    text, size = both.texts([value]).clone(), both.net.vision_model.config.image_size
    from unnoise.nets.clip import prepare

    encode = lambda images: both.net.encode_image(prepare(images * 2 - 1, size))

    def loss(images: Tensor, l: Level) -> Tensor:
        return losses.similarity(at_level(images, l) if noised else images, text, encode)

    return loss


def at_level(images: Tensor, l: Level) -> Tensor:
    """Images in [0, 1] noised to a level, (alpha v + sigma eps) / sqrt(alpha^2 + sigma^2) of v in [-1, 1]:
    one eps for all, the same every time.
    """
    own = l.like(images)
    eps = torch.randn(1, *images.shape[1:], generator=torch.Generator().manual_seed(0)).to(images)
    return (own.alpha * (2 * images - 1) + own.sigma * eps) / (own.alpha**2 + own.sigma**2).sqrt() / 2 + 0.5


def _clip_noised(pipe: Pipeline, value: str) -> Wish:
    return _clip(pipe, value, noised=True)


def judge(device: torch.device = CPU) -> Judge:
    """The bundled judge of scenes, with its network on a device."""
    return _judge_on(torch.device(device))


@cache
def _judge_on(device: torch.device) -> Judge:
    from unnoise.worlds.judge import SCENES, load

    by = load(form=SCENES)
    by.net.to(device)
    return by


def clip_for(pipe: Pipeline) -> Clip:
    """The CLIP of a model's own folder; of a model without one, the bundled emoji CLIP, which knows that
    world alone.
    """
    path = pipe.folder.path
    return _clip_at(str(path) if path and (path / "clip").is_dir() else "emoji", pipe.runner.device)


@cache
def _clip_at(path: str, device: torch.device) -> Clip:
    from unnoise.hub.parts import load_clip

    both = load_clip(path)
    both.net.eval().requires_grad_(False).to(device)
    return both


GUIDES: dict[str, Callable[[Pipeline, str], Wish]] = {
    "colour": _colour,
    "mean": _mean,
    "brightness": _brightness,
    "clip": _clip,
    "clip-noised": _clip_noised,
    "target": _target,
    "edges": _edges,
    "style": _style,
    "judge": _judge,
    "smooth": _smooth,
}
EXAMPLES = {
    "colour": "green",
    "mean": "#c8dcc8",
    "brightness": "0.6",
    "clip": "a happy face",
    "clip-noised": "a happy face",
    "target": "photo.png",
    "edges": "sketch.png",
    "style": "ref.png",
    "judge": "a car",
}
FILES = ("target", "edges", "style")
TEXTS = ("clip", "clip-noised")
