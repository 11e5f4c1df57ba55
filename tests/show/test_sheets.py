"""Sheets hold their pictures, under their words."""

import numpy as np
from PIL import Image

from tests.support.pictures import contains
from unnoise import show
from unnoise.show.lettering import plain, wrapped
from unnoise.show.sheets import fitted


def test_a_sheet_shows_its_pictures_and_its_words():
    pictures = [[Image.new("RGB", (40, 30), (10 * i, 20 * j, 99)) for j in range(3)] for i in range(2)]
    make = lambda **words: np.asarray(
        show.sheet(
            pictures,
            **{"columns": ["1", "2", "3"], "names": ["a", "b"], "over": "steps", "title": "t", **words},
        )
    )
    sheet, at = make(), {}
    for i in range(2):
        for j in range(3):
            at[i, j] = contains(sheet, np.asarray(pictures[i][j].resize((120, 90), Image.Resampling.NEAREST)))
    assert (
        at[0, 0][0] == at[0, 2][0] < at[1, 0][0] == at[1, 2][0]
        and at[0, 0][1] == at[1, 0][1] < at[0, 1][1] < at[0, 2][1]
    )
    top, left = at[0, 0]
    for words, where in (
        ({"columns": ["1", "2", "8"]}, np.s_[:top, at[0, 2][1] :]),
        ({"names": ["a", "g"]}, np.s_[at[1, 0][0] :, :left]),
        ({"title": "T"}, np.s_[:top, :left]),
        ({"over": "STEPS"}, np.s_[:top, left:]),
    ):
        changed = (make(**words) != sheet).any(2) if make(**words).shape == sheet.shape else np.ones(0)
        assert changed[where].any() and changed.sum() == changed[where].sum(), words


def test_long_and_foreign_labels_stay_on_the_sheet():
    labels = ["a " * 300, "größe “x” 猫", "x" * 400]
    sheet = show.sheet([[Image.new("L", (8, 8))] * 3], labels, ["y" * 900], "z " * 900)
    assert sheet.width < 800 and sheet.height < 400
    assert plain("größe 猫\x1b") == "gro?e ??" and "..." in wrapped("a " * 300, 100)


def test_large_pictures_are_reduced_in_proportion():
    assert fitted(Image.new("L", (1000, 500)), 96, 512).size == (512, 256) and fitted(
        Image.new("L", (300, 20)), 96, 512
    ).size == (300, 20)
