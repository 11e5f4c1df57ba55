"""What the tests of editing share: a picture that the default model could have drawn."""

import numpy as np
import pytest
from PIL import Image, ImageDraw


@pytest.fixture(scope="session")
def apple():
    """A red disc on white, uint8 (64, 64, 3)."""
    im = Image.new("RGB", (64, 64), "white")
    ImageDraw.Draw(im).ellipse((16, 18, 48, 50), fill=(210, 30, 40))
    return np.asarray(im)
