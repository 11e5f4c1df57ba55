"""Fixtures that several rooms share."""

import os
import signal

os.environ.setdefault("OMP_NUM_THREADS", "1")
if (
    signal.getsignal(signal.SIGINT) == signal.SIG_IGN
):  # as in the background of a script, and then in all below
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest

import unnoise
from tests.support import models


@pytest.fixture(scope="session")
def emoji():
    """The default model."""
    return unnoise.load("emoji", device="cpu", dtype="fp32")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A model folder with a small random UNet."""
    return models.tiny_folder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def vectors(tmp_path_factory):
    """A model folder with a small random MLP."""
    return models.vector_folder(tmp_path_factory.mktemp("models") / "vectors")
