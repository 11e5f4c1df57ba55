"""What the tests of editing share: the default model, and a picture that it could have drawn."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

import unnoise


@pytest.fixture(scope="session")
def emoji():
    return unnoise.load("emoji", device="cpu", dtype="fp32")


@pytest.fixture(scope="session")
def apple():
    """A red disc on white, uint8 (64, 64, 3)."""
    im = Image.new("RGB", (64, 64), "white")
    ImageDraw.Draw(im).ellipse((16, 18, 48, 50), fill=(210, 30, 40))
    return np.asarray(im)
