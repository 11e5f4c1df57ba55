"""The judge: a network trained on real data that says what a picture shows, and whose features distances are
measured in.

    judge = load("digits-judge")                # a classifier: one question, its words the answers
    judge = load("emoji-judge", SCENES)         # a recogniser: a question a head
    seen = judge.look(images)                   # seen.features, seen.answers[question], seen.said(question)

A judge is asked questions (`heads`: {question: its answers}). A classifier is a judge of one question, CLASS.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from unnoise import hub
from unnoise.base.errors import BadInput
from unnoise.codec import PictureCodec, is_of_pictures
from unnoise.nets.inception import Inception

CLASS = "class"  # the one question of a classifier
Heads = dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Seen:
    """What the judge made of n pictures: features (n, d) float64 and, for each question, the probabilities of
    its answers (n, answers).
    """

    features: np.ndarray
    answers: dict[str, np.ndarray]

    def said(self, question: str = CLASS) -> np.ndarray:
        """(n,) int64: the number of the likeliest answer. KeyError: the judge is not asked this."""
        return self.answers[question].argmax(1)

    @classmethod
    def joined(cls, parts: list[Seen]) -> Seen:
        """What was made of several batches, one after another."""
        answers = {k: np.concatenate([p.answers[k] for p in parts]) for k in parts[0].answers}
        return cls(np.concatenate([p.features for p in parts]), answers)


@dataclass(frozen=True)
class Form:
    """A kind of network that judges: the kind of its model folder, the bundled one's name, what to say where
    another folder is given, how many pictures it looks at at once, and where its questions are read from.
    """

    kind: str
    bundled: str
    expected: str
    batch: int
    heads: Callable[[hub.Folder], Heads]


@dataclass(frozen=True)
class Judge:
    """A network with the codec that it was trained through; `heads` are its questions with their answers.
    `sha256` names its exact weights. net: embed(x) gives features, answers(features) {question: logits}.
    """

    name: str
    sha256: str
    net: Any
    codec: PictureCodec
    heads: Heads
    batch: int = 250
    inception: Inception | None = None  # whose features count for distances, in place of the judge's own

    @property
    def words(self) -> tuple[str, ...]:
        """The classes of a classifier, in order. KeyError: it is asked other things."""
        return self.heads[CLASS]

    def with_inception(self) -> Judge:
        """The same with the standard Inception features. BadInput where that network is not installed."""
        return replace(self, inception=Inception())

    def look(self, images: np.ndarray, batch: int | None = None) -> Seen:
        """Features and answers for uint8 images (n, h, w, c). BadInput when they are none, or not of the
        judge's size and type.
        """
        if len(images) < 1:
            raise BadInput("the judge needs at least 1 image, given none")
        size = batch or self.batch
        return Seen.joined([self._look(images[i : i + size]) for i in range(0, len(images), size)])

    @torch.inference_mode()
    def _look(self, images: np.ndarray) -> Seen:
        h = self.net.embed(self.codec.encode(images))
        answers = {k: v.softmax(1).numpy() for k, v in self.net.answers(h).items()}
        return Seen(self.inception.features(images) if self.inception else h.double().numpy(), answers)


def load(name: str | os.PathLike | None = None, form: Form | None = None) -> Judge:
    """The judge of a bundled name or a model folder, of a form (default: CLASSES, and its bundled one).
    BadInput: damaged, or of another form.
    """
    form = form or CLASSES
    f = hub.load(form.bundled if name is None else name)
    if f.kind != form.kind or not is_of_pictures(f.codec):
        raise BadInput(f"{f.name!r} is of kind {f.kind}: {form.expected}")
    return Judge(f.name, f.sha256, f.net, f.codec, form.heads(f), form.batch)


# --- the two forms ------------------------------------------------------------------------------------------


def _classes(f: hub.Folder) -> Heads:
    config: Any = f.net.config
    if config.time:
        raise BadInput(f"{f.name!r} classifies noisy samples, for guidance: a judge looks at clean images")
    words = f.words.words if f.words else ()
    if len(words) != config.classes:
        raise BadInput(f"judge {f.name!r} has {config.classes} classes and {len(words)} words for them")
    return {CLASS: words}


def _questions(f: hub.Folder) -> Heads:
    config: Any = f.net.config
    return config.heads


CLASSES = Form(
    "classifier", "digits-judge", "a judge is a model folder of kind classifier for images", 500, _classes
)
SCENES = Form(
    "recogniser", "emoji-judge", "a judge of scenes is a model folder of kind recogniser", 250, _questions
)
