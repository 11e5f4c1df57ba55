"""A judge of the real 8x8 digits, trained here in seconds, and generators whose right answer is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from unnoise import hub
from unnoise.codec import Pixels
from unnoise.data import Data, load
from unnoise.evaluate import Judge, load_judge
from unnoise.nets.classifier import Classifier, ClassifierConfig
from unnoise.nets.unet import UNet, UNetConfig
from unnoise.pipeline import Request, Result
from unnoise.text.words import Words
from unnoise.train.recipe import ProcessSection

CODEC = Pixels(8, 8, 1)


def save_judge(folder, net: Classifier, words: tuple[str, ...]):
    return hub.save(
        folder,
        name="tiny-judge",
        kind="classifier",
        net=net,
        weights=None,
        codec=CODEC,
        words=Words(words),
        process=None,
    )


@pytest.fixture(scope="session")
def judge_folder(tmp_path_factory):
    """A model folder of kind classifier: about 97 % right on the test split."""
    d = load("digits8")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = Classifier(ClassifierConfig(widths=(16, 32), features=16, dropout=0.0))
        optimizer, x, y = (
            torch.optim.Adam(net.parameters(), 3e-3),
            CODEC.encode(d.x),
            torch.from_numpy(d.labels),
        )
        for _ in range(100):
            i = torch.randint(len(x), (64,))
            optimizer.zero_grad()
            F.cross_entropy(net(x[i]), y[i]).backward()
            optimizer.step()
    return save_judge(tmp_path_factory.mktemp("models") / "judge", net, d.words)


@pytest.fixture(scope="session")
def judge(judge_folder) -> Judge:
    return load_judge(judge_folder)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    """A whole model folder of 8x8 digits with random weights: it draws noise, but the real pipeline draws
    it.
    """
    with torch.random.fork_rng():
        torch.manual_seed(1)
        net = UNet(
            UNetConfig(
                sample_size=8,
                in_channels=1,
                out_channels=1,
                block_out_channels=(16, 16),
                layers_per_block=1,
                down_block_types=("DownBlock2D", "DownBlock2D"),
                up_block_types=("UpBlock2D", "UpBlock2D"),
                mid_block_type="UNetMidBlock2D",
                attention_head_dim=8,
                norm_num_groups=4,
                num_class_embeds=11,
            )
        )
    return hub.save(
        tmp_path_factory.mktemp("models") / "tiny",
        name="tiny",
        kind="unet",
        net=net,
        weights=None,
        codec=Pixels(8, 8, 1, multiple=2),
        words=Words(load("digits8").words),
        process=ProcessSection(),
    )


class Shows:
    """A generator that shows given images: the k-th image asked for of class c is pool[c][k], a pure function
    of the seed.

    `change(image, seed)` is what it does to the image first; `stop_at` raises when that seed is reached.
    """

    def __init__(
        self,
        data: Data,
        change: Callable[[np.ndarray, int], np.ndarray] = lambda x, s: x,
        worded: bool = True,
        tag: str = "a",
    ):
        self.name, self.sha256, self.words = "shows", tag * 64, Words(data.words) if worded else None
        self.pool, self.names = [data.x[data.labels == c] for c in range(len(data.words))], data.words
        self.change, self.stop_at, self.calls = change, None, []

    def request(
        self, prompt, negative_prompt, num_inference_steps, guidance_scale, seed, num_images, sampler, spacing
    ) -> Request:
        none, seeds = ("",) * num_images, tuple(range(seed, seed + num_images))
        return Request(none, none, num_inference_steps or 1, guidance_scale or 1.0, seeds, "shows", "-")

    def __call__(
        self, prompt, *, num_inference_steps, guidance_scale, seed, sampler, spacing, batch_size
    ) -> Result:
        self.calls.append(tuple(seed))
        if self.stop_at in seed:
            raise KeyboardInterrupt
        return Result(
            np.stack([self._one(p, s) for p, s in zip(prompt, seed)]), tuple(seed), num_inference_steps, ()
        )

    def _one(self, prompt: str, seed: int) -> np.ndarray:
        pool = self.pool[self.names.index(prompt) if self.words else seed % 10]
        return self.change(pool[seed // 10 % len(pool)], seed)
