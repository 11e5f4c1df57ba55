"""Does it draw what was asked? A text-to-image model of the emoji world, judged on prompts whose truth is
known exactly.

    noun        every trained name in turn: "an apple"
    seen        test scenes of several things, pairs and hands: combinations of words that training showed, in
                other pictures
    held out    scenes with a combination that training never showed (its words it did)

Each picture is looked at by the judge (`nets.recogniser`); beside every share stands the ceiling, the judge's
own on real pictures of the very same scenes, and the quotient of the two. A combination (noun and colour,
noun and count, …) is right when both are. FID and KID are of the judge's features, against real renderings of
the same scenes, their floor other real scenes. A near-copy is a picture of one noun that lies closer to its
nearest training picture than 99 of 100 training pictures lie to theirs.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unnoise.base.cache import cache
from unnoise.base.colour import dominant
from unnoise.base.errors import BadInput
from unnoise.base.lock import alone
from unnoise.data.draw import Draw
from unnoise.data.nouns import NOUNS, article, phrase, plain
from unnoise.evaluate import metrics
from unnoise.evaluate.run import Advance, chunks, drawing, share, work_folder
from unnoise.pipeline import Pipeline
from unnoise.pipeline import load as load_pipeline
from unnoise.worlds import judge as judges
from unnoise.worlds.emoji.scenes import Attributes, Scenes, caption, combinations, held_out
from unnoise.worlds.judge import Judge, Seen

GUIDANCES = (1.0, 2.0, 3.0, 5.0, 8.0)
SHARES = {"noun": 0.4, "seen": 0.3, "held out": 0.3}  # of the prompts
ROWS = (
    "noun",
    "seen combinations",
    "held-out combinations",
    "colour",
    "count",
    "orientation",
    "relation",
    "fingers",
)
WORLD = {"objects": 0.55, "pair": 0.25, "hand": 0.20}  # kinds of scene that combine words
PROMPTS = 990_000  # where in the streams of scenes the prompts begin: far from what validation looks at


# --- prompts ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Asked:
    """A prompt and what it asks for."""

    prompt: str
    scene: Attributes
    group: str


def asked(n: int, judge: Judge, emoji: str = "emoji") -> list[Asked]:
    """n prompts of all groups, the same for ever for the same judge."""
    labels = judge.heads["noun"]
    count = {k: round(n * v) for k, v in SHARES.items()}
    out = [
        Asked(
            phrase(labels[i % len(labels)]),
            Attributes("plain", (plain(labels[i % len(labels)]),), (labels[i % len(labels)],), ""),
            "noun",
        )
        for i in range(n - count["seen"] - count["held out"])
    ]
    for group, split in (("seen", "test"), ("held out", "held_out")):
        scenes = Scenes(emoji, split, WORLD, len(labels))
        for i in range(count[group]):
            a = scenes.attributes(0, PROMPTS + i)
            out.append(Asked(caption(a, Draw(0, PROMPTS + i, 99)), a, group))
    return out


# --- what is right ------------------------------------------------------------------------------------------


def verdict(
    a: Attributes, told: dict[str, int], p: Callable[[str, str], float], heads: dict[str, tuple[str, ...]]
) -> dict[str, bool]:
    """{what was asked: whether the judge sees it}. told: the judge's first answer to each question;
    p(question, answer): its probability.
    """
    is_ = lambda head, answer: heads[head][told[head]] == answer
    if a.kind == "hand":
        return {"fingers": is_("fingers", str(a.fingers))}
    if a.kind == "pair":
        return _verdict_of_pair(a, is_, p)
    out = {"noun": is_("noun", a.concepts[0])}
    if a.colour:
        out["colour"] = is_("colour", a.colour)
    if a.count > 1:
        out["count"] = is_("count", str(a.count))
    if a.orientation != "upright":
        out["orientation"] = is_("orientation", a.orientation)
    return out


def _verdict_of_pair(
    a: Attributes, is_: Callable[[str, str], bool], p: Callable[[str, str], float]
) -> dict[str, bool]:
    """Which of the two the judge takes for the first in the picture (upper or left), and whether that is
    where it was asked to be.
    """
    one, two = a.concepts
    forward = p("noun_a", one) * p("noun_b", two) >= p("noun_a", two) * p("noun_b", one)
    places = "ab" if forward else "ba"
    level, first = a.relation not in ("above", "below"), a.relation in ("left of", "above")
    out = {
        "noun": all(is_(f"noun_{k}", c) for k, c in zip(places, a.concepts)),
        "relation": (
            is_("axis", "horizontal" if level else "vertical")
            and (a.relation == "next to" or forward == first)
        ),
    }
    if any(a.colours):
        out["colour"] = all(is_(f"colour_{k}", c) for k, c in zip(places, a.colours) if c)
    return out


def marks(items: Sequence[Asked], seen: Seen, heads: dict[str, tuple[str, ...]]) -> dict[str, list[bool]]:
    """{row: whether each thing that counts for it is right}."""
    first = {k: v.argmax(1) for k, v in seen.answers.items()}
    rows: dict[str, list[bool]] = {row: [] for row in ROWS}
    for i, item in enumerate(items):
        p = lambda head, answer, i=i: (
            float(seen.answers[head][i, heads[head].index(answer)]) if answer in heads[head] else 0.0
        )
        v = verdict(item.scene, {k: int(f[i]) for k, f in first.items()}, p, heads)
        if item.group == "noun":
            rows["noun"].append(v["noun"])
            continue
        for row in ("colour", "count", "orientation", "relation", "fingers"):
            if row in v:
                rows[row].append(v[row])
        for c in combinations(item.scene):
            both = v[c[0]] and v.get("noun", True)
            if item.group == "seen":
                rows["seen combinations"].append(both)
            elif held_out(c):
                rows["held-out combinations"].append(both)
    return rows


# --- the report ---------------------------------------------------------------------------------------------


def evaluate_scenes(
    model: str | os.PathLike | Pipeline = "emoji",
    n: int = 1000,
    *,
    guidances: Sequence[float] = GUIDANCES,
    num_inference_steps: int | None = None,
    sampler: str | None = None,
    spacing: str | None = None,
    seed: int = 0,
    judge: str | os.PathLike | Judge = "emoji-judge",
    emoji: str = "emoji",
    batch_size: int = 50,
    work: str | os.PathLike | None = None,
    negatives: int = 300,
    progress: Advance | None = None,
    inception: bool = False,
) -> dict:
    """Measure a text-to-image model by n prompts at each guidance scale; a report of plain JSON values.

    rows {guidance: {row: {value, se, n, ceiling, relative}}}, fid, kid and near_copies by guidance with their
    floors, negative (the share of pictures that show a named attribute, without and with the negative prompt:
    `negative`, `negatives` pairs). Pictures are kept in `work`, by default the cache: an interrupted run
    continues. inception: distances of the standard Inception features. BadInput: data not fetched, n < 10,
    another size than the judge's.
    """
    if isinstance(n, bool) or not isinstance(n, int) or n < 10:
        raise BadInput(f"n must be a whole number of at least 10 prompts, given {n!r}")
    pipe = load_pipeline(model) if isinstance(model, str | os.PathLike) else model
    by = judge if isinstance(judge, Judge) else judges.load(judge, judges.SCENES)
    if inception:
        by = by.with_inception()
    own = getattr(pipe.codec, "height", 0), getattr(pipe.codec, "width", 0)
    if own != (size := (by.codec.height, by.codec.width)):
        raise BadInput(
            f"judge {by.name!r} looks at {size[0]} x {size[1]} pixels, {pipe.name!r} draws {own[0]} x"
            f" {own[1]}"
        )
    items = asked(n, by, emoji)
    real, other = _real(items, by, emoji)
    ceiling = {row: float(np.mean(v)) if v else None for row, v in marks(items, real, by.heads).items()}
    ceiling["noun"] = _noun_ceiling(by, emoji)
    combined = [i for i, item in enumerate(items) if item.group != "noun"]
    copies = Copies.of(by, emoji)
    draw = _Draw(
        pipe,
        num_inference_steps,
        sampler,
        spacing,
        seed,
        batch_size,
        Path(work) if work else cache() / "evaluate",
        progress,
    )
    rows, distances, near = {}, {}, {}
    for g in guidances:
        x = draw([item.prompt for item in items], None, g)
        seen = by.look(x)
        rows[f"{g:g}"] = {row: _row(v, ceiling[row]) for row, v in marks(items, seen, by.heads).items()}
        distances[f"{g:g}"] = _distances(seen.features[combined], real.features[combined])
        near[f"{g:g}"] = copies.share(x[: len(items) - len(combined)])
    scale = pipe.defaults["guidance_scale"]
    return {
        "model": {"name": pipe.name, "sha256": pipe.sha256},
        "judge": {"name": by.name, "sha256": by.sha256},
        "n": n,
        "seed": seed,
        "features": real.features.shape[1],
        "settings": draw.settings,
        "guidance": scale,
        "rows": rows,
        "distances": distances,
        "floor": _distances(other.features, real.features[combined]),
        "near_copies": near,
        "near_copies_floor": 0.01,
        "negative": negative(draw, by, negatives, scale, emoji) if negatives else None,
    }


def _row(v: list[bool], ceiling: float | None) -> dict[str, Any]:
    if not v:
        return {"value": None, "n": 0}
    s = share(np.array(v))
    return {**s, "ceiling": ceiling, "relative": s["value"] / ceiling if ceiling else None}


def _real(items: Sequence[Asked], judge: Judge, emoji: str) -> tuple[Seen, Seen]:
    """What the judge makes of real pictures of the scenes asked for (of the plain ones, any: `_noun_ceiling`
    counts for them), and of others.
    """
    size, labels = judge.codec.height, judge.heads["noun"]
    split = {
        "seen": Scenes(emoji, "test", WORLD, len(labels)),
        "held out": Scenes(emoji, "held_out", WORLD, len(labels)),
    }
    blank = np.full((size, size, 3), 255, dtype=np.uint8)
    x = np.stack([blank if i.group == "noun" else split[i.group].render(i.scene, size) for i in items])
    m = sum(i.group != "noun" for i in items)
    others = np.stack([s.scene(1, PROMPTS + i, size)[0] for s in split.values() for i in range(m // 2)])
    return judge.look(x), judge.look(others)


def _noun_ceiling(judge: Judge, emoji: str, n: int = 1000) -> float:
    """How often the judge names a plain test picture rightly: pictures of (concept, vendor) pairs that its
    training never showed.
    """
    scenes = Scenes(emoji, "test", {"plain": 1.0}, len(judge.heads["noun"]))
    made = [scenes.attributes(0, PROMPTS + i) for i in range(n)]
    said = (
        judge.look(np.stack([scenes.render(a, judge.codec.height) for a in made])).answers["noun"].argmax(1)
    )
    return float(np.mean([judge.heads["noun"][k] == a.concepts[0] for k, a in zip(said, made)]))


def _distances(fake: np.ndarray, real: np.ndarray) -> dict[str, float | None]:
    kid, se = metrics.kid(fake, real)
    return {"n": len(fake), "fid": metrics.fid(fake, real), "kid": kid, "kid_se": se}


@dataclass
class _Draw:
    """Draws prompts at one guidance scale after another, resumably."""

    pipe: Pipeline
    steps: int | None
    sampler: str | None
    spacing: str | None
    seed: int
    batch: int
    root: Path
    progress: Advance | None
    settings: dict[str, Any] | None = None

    def __call__(
        self, prompts: Sequence[str], negatives: Sequence[str] | None, guidance: float
    ) -> np.ndarray:
        """uint8 (n, h, w, 3); prompt i has seed `seed` + i."""
        n = len(prompts)
        told = None if negatives is None else list(negatives)
        request = self.pipe.request(
            list(prompts),
            negative_prompt=told,
            num_inference_steps=self.steps,
            guidance_scale=guidance,
            seed=self.seed,
            sampler=self.sampler,
            spacing=self.spacing,
        )
        settings = drawing(self.pipe, request)
        self.settings = self.settings or {k: v for k, v in settings.items() if k not in ("guidance", "seed")}
        folder = work_folder(
            self.root,
            {**settings, "batch_size": self.batch, "prompts": _hash([*prompts, *(negatives or [])])},
        )
        made = []
        with alone(folder, "evaluating"):
            for x, _ in chunks(self.pipe, request, self.batch, folder):
                made.append(x)
                if self.progress:
                    self.progress(len(x))
        assert sum(map(len, made)) == n
        return np.concatenate(made)


def _hash(texts: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps(list(texts)).encode()).hexdigest()


# --- near copies --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Copies:
    """The training pictures of one thing, as 32 x 32 x 3 numbers in [0, 1], and the distance below which a
    picture is a near-copy.
    """

    x: torch.Tensor
    threshold: float

    @classmethod
    def of(cls, judge: Judge, emoji: str) -> Copies:
        scenes = Scenes(emoji, "train", {"plain": 1.0}, len(judge.heads["noun"]))
        x = torch.stack([_small(scenes.emoji.image(i)) for i in scenes.plain])
        d = torch.cdist(x, x)
        d.fill_diagonal_(float("inf"))
        return cls(x, float(torch.quantile(d.amin(1), 0.01)))

    def share(self, images: np.ndarray) -> dict[str, float]:
        """{value, se, n, median (of the nearest distances, root mean square a number), threshold}."""
        near = torch.cat(
            [
                torch.cdist(torch.stack([_small(i) for i in images[k : k + 100]]), self.x).amin(1)
                for k in range(0, len(images), 100)
            ]
        )
        scale = self.x.shape[1] ** -0.5
        return {
            **share((near < self.threshold).numpy()),
            "median": float(near.median()) * scale,
            "threshold": self.threshold * scale,
        }


def _small(image: np.ndarray) -> torch.Tensor:
    side = len(image) // 32
    return torch.from_numpy(image.reshape(32, side, 32, side, 3).mean((1, 3)).reshape(-1) / 255).float()


# --- negative prompts ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Forbidden:
    """A prompt, a negative prompt that names an attribute, and what tells whether a picture shows it."""

    kind: str
    prompt: str
    negative: str
    concept: str
    word: str


def negative(
    draw: Callable[..., np.ndarray], judge: Judge, pairs: int, guidance: float, emoji: str = "emoji"
) -> dict[str, Any]:
    """How often pictures show an attribute that the negative prompt names, without it and with it, same
    prompts and seeds.

    Half of the pairs forbid the colour that most training pictures of a thing have ("a strawberry", negative
    "red"; `dominant` of the pixels tells), half one vendor's style (the judge tells): "all" is of these. A
    third as many more contradict themselves: the prompt asks for the colour, or the ground, that is
    forbidden. noun: how often the judge names the thing in "all".
    """
    cases = forbidden(judge, pairs, emoji)
    out: dict[str, Any] = {"pairs": pairs, "guidance": guidance}
    for when, told in (("before", None), ("after", [c.negative for c in cases])):
        x = draw([c.prompt for c in cases], told, guidance)
        answers = {k: [judge.heads[k][int(a)] for a in v.argmax(1)] for k, v in judge.look(x).answers.items()}
        hit = np.array(
            [
                (dominant(x[i]) if c.kind == "colour" else answers[c.kind.split()[-1]][i]) == c.word
                for i, c in enumerate(cases)
            ]
        )
        named = np.array([answers["noun"][i] == c.concept for i, c in enumerate(cases[:pairs])])
        of = {
            kind: share(hit[[c.kind == kind for c in cases]]) for kind in dict.fromkeys(c.kind for c in cases)
        }
        out[when] = {"all": share(hit[:pairs]), **of, "noun": share(named)}
    return out


def forbidden(judge: Judge, pairs: int, emoji: str = "emoji") -> list[Forbidden]:
    """`pairs` cases whose prompts leave open what is forbidden, then a third as many (at least two) whose
    prompts ask for it.
    """
    labels = [l for l in judge.heads["noun"] if l in NOUNS]
    own = [(l, w) for l, w in own_colours(emoji, len(judge.heads["noun"])).items() if l in labels]
    if not own:
        raise BadInput(
            f"the set {emoji!r} has no thing of a colour of its own: leave negative prompts out (negatives 0)"
        )
    styles, colours, grounds = (judge.heads[k] for k in ("style", "colour", "background"))
    pick = lambda items, i: items[i % len(items)]
    cases = []
    for i in range(pairs):
        k, label = i // 2, pick(labels, i)
        if i % 2 == 0:
            cases.append(Forbidden("colour", phrase(pick(own, k)[0]), pick(own, k)[1], *pick(own, k)))
        else:
            cases.append(
                Forbidden("style", phrase(label), f"{pick(styles, k)} style", label, pick(styles, k))
            )
    for i in range(contradictions(pairs)):
        k, label = i // 2, pick(labels, i)
        colour, ground = pick(colours[1:], k), pick(grounds[1:], k)
        if i % 2 == 0:
            cases.append(
                Forbidden("asked-for colour", article(f"{colour} {NOUNS[label]}"), colour, label, colour)
            )
        else:
            cases.append(
                Forbidden(
                    "asked-for background",
                    f"{phrase(label)} on {article(ground)} background",
                    f"{ground} background",
                    label,
                    ground,
                )
            )
    return cases


def contradictions(pairs: int) -> int:
    """How many cases of `forbidden` contradict themselves, beside so many that do not."""
    return max(pairs // 3, 2) if pairs else 0


def own_colours(emoji: str, concepts: int) -> dict[str, str]:
    """{concept: the colour that at least six in ten of its training pictures show}, where that is a hue: no
    grey, no black.
    """
    scenes, shown = Scenes(emoji, "train", {"plain": 1.0}, concepts), {}
    for i in scenes.plain:
        shown.setdefault(scenes.emoji.concepts[scenes.emoji.concept[i]].label, []).append(
            dominant(scenes.emoji.image(i))
        )
    most = {label: max(set(v), key=v.count) for label, v in sorted(shown.items())}
    return {
        label: w
        for label, w in most.items()
        if w not in (None, "grey", "black") and shown[label].count(w) >= 0.6 * len(shown[label])
    }
