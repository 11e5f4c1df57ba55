"""Does it draw what was asked? A text-to-image model of the emoji world, judged on prompts whose truth is
known exactly (`worlds.emoji.exam`).

Each picture is looked at by the judge (`nets.recogniser`); beside every share stands the ceiling, the judge's
own on real pictures of the very same scenes, and the quotient of the two. FID and KID are of the judge's
features, against real renderings of the same scenes, their floor other real scenes. A near-copy is a picture
of one noun that lies closer to its nearest training picture than 99 of 100 training pictures lie to theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from unnoise.base.errors import BadInput
from unnoise.codec import is_of_pictures
from unnoise.evaluate import metrics
from unnoise.evaluate.copies import Copies
from unnoise.evaluate.exam import Order, Report, columns, share
from unnoise.evaluate.kept import Drawer, Generator, hashed
from unnoise.pipeline import Pipeline
from unnoise.worlds.emoji import exam
from unnoise.worlds.emoji.exam import Asked, Forbidden
from unnoise.worlds.judge import SCENES, Judge, Seen

DATA = "emoji"
GUIDANCES = (1.0, 2.0, 3.0, 5.0, 8.0)
VARIED = ("guidance", "seed", "prompts", "batch_size")  # settings that are told elsewhere in a report


class SceneExam:
    """rows {guidance: {row: {value, se, n, ceiling, relative}}}, fid, kid and near_copies by guidance with
    their floors, negative (the share of pictures that show a named attribute, without and with the negative
    prompt: `negative`, `negatives` pairs).
    """

    usual: ClassVar[int] = 1000
    least: ClassVar[int] = 10
    unit: ClassVar[str] = "prompts"
    several: ClassVar[bool] = True
    comparable: ClassVar[bool] = False

    def __init__(self, pipe: Pipeline, order: Order, draw: Drawer):
        self.pipe, self.order, self.draw = pipe, order, draw
        self.judge = order.judged_by(SCENES)
        _check_size(pipe, self.judge)
        self.emoji = order.data or DATA
        self.items = exam.asked(order.n, self.judge, self.emoji)
        self.settings: dict[str, Any] = {}

    @staticmethod
    def suits(pipe: Generator) -> bool:
        """Whatever takes text."""
        return getattr(pipe, "text", None) is not None

    @staticmethod
    def count(order: Order) -> int:
        pairs = order.negatives + exam.contradictions(order.negatives)
        return order.n * len(order.guidances or GUIDANCES) + 2 * pairs

    def report(self) -> Report:
        truth = Truth.of(self.items, self.judge, self.emoji)
        at = {f"{g:g}": self._at(g, truth) for g in self.order.guidances or GUIDANCES}
        scale = self.pipe.defaults["guidance_scale"]
        return {
            "model": {"name": self.pipe.name, "sha256": self.pipe.sha256},
            "judge": {"name": self.judge.name, "sha256": self.judge.sha256},
            "n": self.order.n,
            "seed": self.draw.seed,
            "features": truth.real.features.shape[1],
            "settings": self.settings,
            "guidance": scale,
            **{key: {g: found[key] for g, found in at.items()} for key in ("rows", "distances")},
            "floor": _distances(truth.other, truth.reference),
            "near_copies": {g: found["near_copies"] for g, found in at.items()},
            "near_copies_floor": 0.01,
            "negative": self._negative(scale),
        }

    def _at(self, guidance: float, truth: Truth) -> Report:
        """What is measured at one guidance scale."""
        x = self.pictures([item.prompt for item in self.items], guidance)
        seen = self.judge.look(x)
        right = exam.marks(self.items, seen, self.judge.heads)
        return {
            "rows": {row: _row(v, truth.ceilings[row]) for row, v in right.items()},
            "distances": _distances(seen.features[truth.combined], truth.reference),
            "near_copies": truth.copies.share(x[: len(x) - len(truth.combined)]),
        }

    def pictures(
        self, prompts: Sequence[str], guidance: float, negatives: Sequence[str] | None = None
    ) -> np.ndarray:
        """uint8 (n, h, w, 3); prompt i has seed `seed` + i."""
        request = self.draw.request(list(prompts), guidance, negatives)
        more = {"prompts": hashed([*prompts, *(negatives or [])])}
        drawn = self.draw.looked_at(request, more, lambda pictures: pictures)
        self.settings = self.settings or {k: v for k, v in drawn.settings.items() if k not in VARIED}
        return np.concatenate(drawn.each)

    def _negative(self, guidance: float) -> Report | None:
        if not self.order.negatives:
            return None
        cases = exam.forbidden(self.judge, self.order.negatives, self.emoji)
        return negative(self.pictures, self.judge, cases, self.order.negatives, guidance)

    @staticmethod
    def table(report: Report) -> str:
        """A row for what is asked, a column for each guidance; shares in percent, and in brackets of the
        judge's own ceiling.
        """
        return "\n".join(
            [
                *_head(report),
                "",
                *columns(_right_rows(report)),
                "",
                *columns(_far_rows(report)),
                *_negative_lines(report),
            ]
        )


@dataclass(frozen=True)
class Truth:
    """Real pictures of what is asked, as the judge sees them: all, `combined` the numbers of those of several
    words, the features of these (`reference`) and of other such scenes; its ceilings; the training pictures.
    """

    real: Seen
    other: np.ndarray
    combined: list[int]
    ceilings: dict[str, float | None]
    copies: Copies

    @property
    def reference(self) -> np.ndarray:
        return self.real.features[self.combined]

    @classmethod
    def of(cls, items: Sequence[Asked], judge: Judge, emoji: str) -> Truth:
        real, other = exam.real(items, judge, emoji)
        return cls(
            real,
            other.features,
            [i for i, item in enumerate(items) if item.group != "noun"],
            exam.ceilings(items, real, judge, emoji),
            Copies.of(exam.training_pictures(judge, emoji)),
        )


def _check_size(pipe: Pipeline, judge: Judge) -> None:
    size = judge.codec.height, judge.codec.width
    drawn = (pipe.codec.height, pipe.codec.width) if is_of_pictures(pipe.codec) else (0, 0)
    if drawn != size:
        raise BadInput(
            f"judge {judge.name!r} looks at {size[0]} x {size[1]} pixels, {pipe.name!r} draws {drawn[0]} x"
            f" {drawn[1]}"
        )


def _row(v: list[bool], ceiling: float | None) -> Report:
    if not v:
        return {"value": None, "n": 0}
    s = share(v)
    return {**s, "ceiling": ceiling, "relative": s["value"] / ceiling if ceiling else None}


def _distances(fake: np.ndarray, real: np.ndarray) -> dict[str, float | None]:
    kid, se = metrics.kid(fake, real)
    return {"n": len(fake), "fid": metrics.fid(fake, real), "kid": kid, "kid_se": se}


def negative(
    draw: Callable[..., np.ndarray], judge: Judge, cases: Sequence[Forbidden], pairs: int, guidance: float
) -> Report:
    """How often pictures show an attribute that the negative prompt names, without it and with it, same
    prompts and seeds.

    Half of the pairs forbid the colour that most training pictures of a thing have ("a strawberry", negative
    "red"; `dominant` of the pixels tells), half one vendor's style (the judge tells): "all" is of these. A
    third as many more contradict themselves: the prompt asks for the colour, or the ground, that is
    forbidden. noun: how often the judge names the thing in "all".
    """
    prompts, negatives = [c.prompt for c in cases], [c.negative for c in cases]
    before = _shown(draw(prompts, guidance, None), judge, cases, pairs)
    after = _shown(draw(prompts, guidance, negatives), judge, cases, pairs)
    return {"pairs": pairs, "guidance": guidance, "before": before, "after": after}


def _shown(x: np.ndarray, judge: Judge, cases: Sequence[Forbidden], pairs: int) -> Report:
    """Shares of pictures, one a case, that show what is forbidden: by kind, and of the first `pairs`."""
    seen = judge.look(x)
    said = {question: [judge.heads[question][k] for k in seen.said(question)] for question in seen.answers}
    answers = [{question: words[i] for question, words in said.items()} for i in range(len(cases))]
    hit = np.array([exam.shows(*of) for of in zip(cases, x, answers)])
    kinds = dict.fromkeys(c.kind for c in cases)
    return {
        "all": share(hit[:pairs]),
        **{kind: share(hit[[c.kind == kind for c in cases]]) for kind in kinds},
        "noun": share([a["noun"] == c.concept for a, c in zip(answers[:pairs], cases)]),
    }


# --- for people ---------------------------------------------------------------------------------------------


def _head(r: Report) -> list[str]:
    model, s, judge = r["model"], r["settings"], r["judge"]
    return [
        f"model      {model['name']} ({model['sha256'][:12]}): {s['sampler']}, {s['steps']} steps,"
        f" {s['spacing']} grid",
        f"judge      {judge['name']} ({judge['sha256'][:12]})",
    ]


def _right_rows(r: Report) -> list[tuple]:
    at = r["rows"]
    rows = [("right, % (% of ceiling)", *(f"guidance {g}" for g in at), "ceiling", "n")]
    for name, v in next(iter(at.values())).items():
        top = "-" if v.get("ceiling") is None else f"{100 * v['ceiling']:.1f}"
        rows.append((name, *(_cell(found[name]) for found in at.values()), top, v["n"]))
    return rows


def _cell(v: Report) -> str:
    """A share in percent, in brackets what that is of the ceiling."""
    if v["value"] is None:
        return "-"
    relative = "" if v["relative"] is None else f" ({100 * v['relative']:.0f})"
    return f"{100 * v['value']:.1f}{relative}"


def _far_rows(r: Report) -> list[tuple]:
    at, floor, near = r["distances"], r["floor"], r["near_copies"]
    rows = [("", *(f"guidance {g}" for g in at), "floor (real)", "n")]
    for k in ("fid", "kid"):
        rows.append((k.upper(), *(f"{d[k]:.4f}" for d in at.values()), f"{floor[k]:.4f}", floor["n"]))
    shares = [f"{100 * v['value']:.1f}" for v in near.values()]
    return [*rows, ("near-copies, %", *shares, "1.0", next(iter(near.values()))["n"])]


def _negative_lines(r: Report) -> list[str]:
    n = r["negative"]
    if not n:
        return []
    rows = [("named attribute seen, %", *n["before"])]
    for when, key in (("without", "before"), ("with", "after")):
        shares = [f"{100 * v['value']:.1f} ± {100 * v['se']:.1f}" for v in n[key].values()]
        rows.append((f"{when} the negative prompt", *shares))
    return ["", *columns(rows)]
