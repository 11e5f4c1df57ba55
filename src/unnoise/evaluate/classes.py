"""Models of classes, beside real images of the same.

labels     image i is asked for word i mod (number of words), with seed `seed` + i: balanced, and
           independent of batches
reference  real images of the test split, class by class as many as were generated (or as many as there
           are)
floor      the same numbers for real training images in the place of the generated ones: a perfect
           generator is near it
ceiling    the judge's own accuracy on the real test images
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from unnoise import data as datasets
from unnoise.base.errors import BadInput
from unnoise.data.sources import SOURCES
from unnoise.data.transforms import permutation
from unnoise.evaluate import metrics
from unnoise.evaluate.exam import Order, Report, columns, share
from unnoise.evaluate.kept import Drawer, Generator
from unnoise.worlds.judge import CLASSES, Judge, Seen

DATA = "mnist+fashion"
NEIGHBOURS = 3  # the k of precision and recall
REFERENCE, OTHER = "test", "train"


class ClassExam:
    """accuracy {all, groups, classes} of {value, se, n}, None for a model without words; fid, kid, kid_se,
    precision, recall of n_matched images a side; floor with the same keys; ceiling like accuracy;
    conditions: all that must agree before two reports may be compared.
    """

    usual: ClassVar[int] = 2000
    least: ClassVar[int] = 2
    unit: ClassVar[str] = "images"
    several: ClassVar[bool] = False
    comparable: ClassVar[bool] = True

    def __init__(self, pipe: Generator, order: Order, draw: Drawer):
        if len(order.guidances) > 1:
            raise BadInput(f"models of classes take one guidance_scale, given {order.guidances}")
        self.pipe, self.n, self.draw = pipe, order.n, draw
        self.judge = order.judged_by(CLASSES)
        guidance = order.guidances[0] if order.guidances else None
        request = draw.request("", guidance, num_images=order.n)
        self.real = {split: _real(order.data or DATA, split, self.judge) for split in (REFERENCE, OTHER)}
        self.labels = _labels(pipe, self.judge, order.n)
        words = pipe.words.words if pipe.words else ("",)
        self.request = replace(request, prompts=tuple(words[i % len(words)] for i in range(order.n)))

    @staticmethod
    def suits(pipe: Generator) -> bool:
        """Whatever takes no text."""
        return getattr(pipe, "text", None) is None

    @staticmethod
    def count(order: Order) -> int:
        return order.n

    def report(self) -> Report:
        words = list(self.pipe.words.words) if self.pipe.words else []
        seen = self.draw.looked_at(self.request, {"words": words}, self.judge.look)
        return {
            "model": {"name": self.pipe.name, "sha256": self.pipe.sha256},
            "n": self.n,
            "settings": seen.settings,
            "nfe": seen.nfe,
            **self._measured(Seen.joined(seen.each)),
            "work": str(seen.folder),
        }

    def _measured(self, seen: Seen) -> Report:
        """All numbers, of the images seen and of as many real ones of the same classes."""
        test, train = self.real[REFERENCE], self.real[OTHER]
        sides = [_classes(d) for d in self.real.values()]
        wanted, counts = _counts(self.labels, self.n, len(self.judge.words), sides)
        if counts.sum() < 2:
            raise BadInput(f"data set {test.name!r} has no 2 images of the classes generated")
        known = test.take(np.flatnonzero(np.isin(_classes(test), wanted)))
        look = self.judge.look(known.x)
        chosen, other = _pick(known.labels, counts), _pick(train.labels, counts)
        reference = look.features[chosen], _classes(known)[chosen]
        floor = self.judge.look(train.x[other]).features, _classes(train)[other]
        return {
            "accuracy": None if self.labels is None else self._accuracy(seen.said(), self.labels),
            **_distances(*self._matched(seen, counts), *reference),
            "floor": {"of": f"real {OTHER} images", **_distances(*floor, *reference)},
            "ceiling": {"of": f"real {REFERENCE} images", **self._accuracy(look.said(), _classes(known))},
            "conditions": self._conditions(reference[0], wanted),
        }

    def _matched(self, seen: Seen, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Features, and classes asked for, of as many images of every class as all sides can give."""
        if self.labels is None:
            return seen.features[: counts.sum()], None
        first = _pick(self.labels, counts, shuffled=False)
        return seen.features[first], self.labels[first]

    def _accuracy(self, said: np.ndarray, labels: np.ndarray) -> Report:
        return _accuracy(said, labels, self.judge.words, _groups(self.real[REFERENCE]))

    def _conditions(self, reference: np.ndarray, wanted: np.ndarray) -> Report:
        test, judge = self.real[REFERENCE], self.judge
        return {
            "n": self.n,
            "n_matched": len(reference),
            "classes": [judge.words[c] for c in wanted],
            "data": test.name,
            "split": REFERENCE,
            "data_sha256": test.sha256,
            "judge": judge.name,
            "judge_sha256": judge.sha256,
            "features": reference.shape[1],
            "neighbours": NEIGHBOURS,
            "resize": "none",
            "metrics_revision": metrics.REVISION,
        }

    @staticmethod
    def table(report: Report) -> str:
        """A report as lines for people."""
        distances, accuracy = columns(_distance_rows(report)), columns(_accuracy_rows(report))
        return "\n".join([*_head(report), "", *distances, "", *accuracy, *_against(report)])


def compare(a: Report, b: Report) -> Report:
    """The differences b - a of two reports' numbers. BadInput names what differs when they were not measured
    alike.
    """
    try:
        for key in a["conditions"].keys() | b["conditions"].keys():
            x, y = a["conditions"].get(key), b["conditions"].get(key)
            if x != y:
                raise BadInput(f"these reports cannot be compared: {key} is {x} in one and {y} in the other")
        pairs = {k: (a[k], b[k]) for k in ("fid", "kid", "precision", "recall")}
        if a["accuracy"] and b["accuracy"]:
            pairs["accuracy"] = tuple(r["accuracy"]["all"]["value"] for r in (a, b))
        return {k: None if None in pair else pair[1] - pair[0] for k, pair in pairs.items()}
    except (KeyError, TypeError, AttributeError):
        raise BadInput("to compare, give two reports of `unnoise evaluate --json`") from None


# --- the numbers --------------------------------------------------------------------------------------------


def _counts(
    labels: np.ndarray | None, n: int, classes: int, real: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """(the classes that n images have, how many images of every class all sides can give); without labels,
    all alike.
    """
    generated = np.arange(n) % classes if labels is None else labels
    counts = [np.bincount(side, minlength=classes) for side in (generated, *real)]
    return np.flatnonzero(counts[0]), np.minimum.reduce(counts)


def _distances(
    fake: np.ndarray, asked: np.ndarray | None, real: np.ndarray, classes: np.ndarray
) -> dict[str, Any]:
    """FID, KID, precision and recall of two matched sets; None for those that want more images than there
    are.
    """
    sizes = [np.unique(c, return_counts=True)[1].min() for c in (asked, classes) if c is not None]
    kid, se = metrics.kid(fake, real, asked, classes) if min(sizes) > 1 else (None, None)
    precision, recall = (
        metrics.precision_recall(real, fake, NEIGHBOURS) if len(real) > NEIGHBOURS else (None, None)
    )
    return {
        "n_matched": len(real),
        "fid": metrics.fid(fake, real),
        "kid": kid,
        "kid_se": se,
        "precision": precision,
        "recall": recall,
    }


def _accuracy(
    said: np.ndarray, labels: np.ndarray, words: tuple[str, ...], groups: dict[str, range]
) -> dict[str, Any]:
    """How often the judge says what was asked for: in all, by group and by class; each with its standard
    error and n.
    """
    hit, there = said == labels, sorted(set(labels.tolist()))
    by_group = {name: hit[np.isin(labels, group)] for name, group in groups.items()}
    return {
        "all": share(hit),
        "groups": {k: share(v) for k, v in by_group.items() if len(v)},
        "classes": {words[c]: share(hit[labels == c]) for c in there},
    }


# --- which images -------------------------------------------------------------------------------------------


def _real(name: str, split: str, judge: Judge) -> datasets.Data:
    d = datasets.load(name, split)
    if d.words != judge.words:
        raise BadInput(
            f"data set {name!r} has other classes than judge {judge.name!r} (accepted:"
            f" {', '.join(judge.words)})"
        )
    judge.codec.encode(d.x[:1])  # says now, before the work, when the images are not of the judge's size
    return d


def _labels(pipe: Generator, judge: Judge, n: int) -> np.ndarray | None:
    """(n,) the judge's number of the word that image i is asked for; None for a model without words."""
    if pipe.words is None:
        return None
    for word in pipe.words.words:
        if word not in judge.words:
            raise BadInput(
                f"judge {judge.name!r} does not know {word!r} of model {pipe.name!r} "
                f"(accepted: {', '.join(judge.words)})"
            )
    numbers = np.array([judge.words.index(word) for word in pipe.words.words])
    return numbers[np.arange(n) % len(numbers)]


def _pick(labels: np.ndarray | None, counts: np.ndarray, shuffled: bool = True) -> np.ndarray:
    """Indices of counts[c] items of every class c, ascending: the first of a fixed random order, or simply
    the first.
    """
    labels = np.asarray(labels)
    order = permutation(len(labels), 0, 0) if shuffled else np.arange(len(labels))
    return np.sort(np.concatenate([order[labels[order] == c][:k] for c, k in enumerate(counts)]))


def _classes(d: datasets.Data) -> np.ndarray:
    if d.labels is None:
        raise BadInput(f"data set {d.name!r} has no classes to judge by")
    return d.labels


def _groups(d: datasets.Data) -> dict[str, range]:
    """The labels of each set that a joined set consists of: {"mnist": 0-9, "fashion-mnist": 10-19}; else no
    groups.
    """
    groups, start = {}, 0
    for part in SOURCES[d.name].parts if d.name in SOURCES else ():
        end = start + len(SOURCES[part].words)
        groups[part], start = range(start, end), end
    return groups


# --- for people ---------------------------------------------------------------------------------------------


def _head(r: Report) -> list[str]:
    s, c = r["settings"], r["conditions"]
    return [
        (
            f"model      {s['model']} ({s['model_sha256'][:12]}): {s['sampler']}, {s['steps']} steps,"
            f" {s['spacing']} grid, {r['nfe']} calls, guidance {s['guidance']:g}, seeds {s['seed']} to"
            f" {s['seed'] + r['n'] - 1}"
        ),
        (
            f"judge      {c['judge']} ({c['judge_sha256'][:12]}): its {c['features']} features, unlike any"
            " other's"
        ),
        f"reference  {c['data']}, {c['split']} split, {c['n_matched']} images; floor of {r['floor']['of']}",
    ]


def _distance_rows(r: Report) -> list[tuple]:
    n, sides = r["n_matched"], (r, r["floor"])
    share = lambda v: "-" if v is None else f"{v:.4f}"
    error = lambda d: "" if d["kid_se"] is None else f" ± {d['kid_se']:.5f}"
    kid = lambda d: "-" if d["kid"] is None else f"{d['kid']:.5f}{error(d)}"
    return [
        ("", "generated", "floor (real)", "n"),
        ("FID", *(f"{d['fid']:.3f}" for d in sides), n),
        ("KID", *map(kid, sides), n),
        *((k, *(share(d[k]) for d in sides), n) for k in ("precision", "recall")),
    ]


def _accuracy_rows(r: Report) -> list[tuple]:
    a, top = r["accuracy"], r["ceiling"]
    head = ("accuracy", "generated", "ceiling (real)", "n")
    if a is None:
        return [head, ("all", "- (a model without words)", f"{top['all']['value']:.4f}", top["all"]["n"])]
    line = lambda name, x, y: (
        name,
        f"{x['value']:.4f} ± {x['se']:.4f}",
        f"{y['value']:.4f}" if y else "-",
        x["n"],
    )
    parts = [(k, v, top[part].get(k)) for part in ("groups", "classes") for k, v in a[part].items()]
    return [head, line("all", a["all"], top["all"]), *(line(*p) for p in parts)]


def _against(r: Report) -> list[str]:
    if "against" not in r:
        return []
    changes = ", ".join(f"{k} {v:+.5f}" for k, v in r["against"].items() if isinstance(v, float))
    return ["", f"against {r['against']['file']}: {changes}"]
