"""The judge: a classifier of real images. It names what a picture shows, and gives the features for FID and
KID.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch

from unnoise import hub
from unnoise.base.errors import BadInput
from unnoise.codec import Pixels
from unnoise.evaluate.inception import Inception
from unnoise.nets.classifier import Classifier

JUDGE = "digits-judge"


class Seen(NamedTuple):
    """What the judge made of n images: features (n, d) float64, the classes it says (n,) int64."""

    features: np.ndarray
    classes: np.ndarray


@dataclass(frozen=True)
class Judge:
    """A classifier with the codec it was trained through. `sha256` names its exact weights, `words` its
    classes in order.
    """

    name: str
    sha256: str
    net: Classifier
    codec: Pixels
    words: tuple[str, ...]
    inception: Inception | None = None  # whose features count for distances, in place of the judge's own

    @torch.inference_mode()
    def look(self, images: np.ndarray, batch: int = 500) -> Seen:
        """Features and classes of uint8 images (n, h, w, c). BadInput when they are not of the judge's size
        and type.
        """
        if len(images) < 1:
            raise BadInput("the judge needs at least 1 image, given none")
        features, classes = [], []
        for i in range(0, len(images), batch):
            h = self.net.embed(self.codec.encode(images[i : i + batch]))
            features.append(
                self.inception.features(images[i : i + batch]) if self.inception else h.double().numpy()
            )
            classes.append(self.net.head(h).argmax(1).numpy())
        return Seen(np.concatenate(features), np.concatenate(classes))


def with_features(judge: Judge) -> Judge:
    """The judge with the standard Inception features. BadInput where that network is not installed."""
    return replace(judge, inception=Inception())


def load(name: str | os.PathLike = JUDGE) -> Judge:
    """The judge of a bundled name or a model folder. BadInput: damaged, or not a classifier with words for
    its classes.
    """
    f = hub.load(name)
    if not isinstance(f.net, Classifier) or not isinstance(f.codec, Pixels):
        raise BadInput(
            f"{f.name!r} is of kind {f.kind}: a judge is a model folder of kind classifier for images"
        )
    if f.net.config.time:
        raise BadInput(f"{f.name!r} classifies noisy samples, for guidance: a judge looks at clean images")
    words = f.words.words if f.words else ()
    if len(words) != f.net.config.classes:
        raise BadInput(f"judge {f.name!r} has {f.net.config.classes} classes and {len(words)} words for them")
    return Judge(f.name, f.sha256, f.net, f.codec, words)
