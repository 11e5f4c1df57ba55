"""A model of vectors, which has no fast form: it draws in Python, and the command line says that it makes no
pictures.
"""

from __future__ import annotations

import pytest

import unnoise
from unnoise.cli.main import main


def test_one_call_of_a_network_without_a_fast_form(vectors):
    plain, once = (
        unnoise.load(vectors, device="cpu", dtype="fp32", once=o)(seed=1, num_inference_steps=2)
        for o in (False, True)
    )
    assert once.arrays.shape == (1, 3) and (once.arrays == plain.arrays).all()


def test_generate_says_that_these_are_no_pictures(vectors, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as e:
        main(["generate", "", "--model", str(vectors), "--steps", "1", "-o", "made.png"])
    out, err = capsys.readouterr()
    assert (e.value.code, out, err.count("\n")) == (2, "", 1) and "not pictures" in err
    assert not list(tmp_path.iterdir())
