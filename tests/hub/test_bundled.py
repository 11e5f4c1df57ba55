"""Every model that comes along loads whole, under its name, and warns of nothing."""

import warnings
from pathlib import Path

import pytest

import unnoise
from unnoise import hub

HERE = Path(unnoise.__file__).parent / "models"
FOLDERS = sorted(p.name for p in HERE.iterdir() if p.is_dir())
JUDGES = {"digits-judge": "classifier", "emoji-judge": "recogniser"}


def test_none_is_missing():
    assert set(FOLDERS) == {"digits", "emoji", "emoji-upscale", *JUDGES} == set(hub.bundled())
    assert unnoise.DEFAULT_MODEL in FOLDERS


@pytest.mark.parametrize("name", FOLDERS)
def test_every_bundled_model_loads(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        f = hub.load(name)
    assert f.name == name and not f.left_out
    assert all(bool(p.isfinite().all()) for p in f.net.parameters())
    if name in JUDGES:
        assert f.kind == JUDGES[name]
    else:
        pipe = unnoise.load(name, device="cpu", dtype="fp32")
        assert (pipe.name, pipe.sha256) == (name, f.sha256)
