"""What every medium answers: `media.Medium`."""

import numpy as np
import pytest

from unnoise.base.errors import BadInput
from unnoise.media import MEDIA, NUMBERS, PICTURES, makes, of_file, read_record
from unnoise.media.files import named, put

DATA = {"pictures": np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3), "numbers": np.linspace(-1, 1, 12)}


@pytest.mark.parametrize("medium", [MEDIA[name] for name in DATA], ids=list(DATA))
def test_what_is_written_is_read_again_with_its_record(medium, tmp_path):
    data = DATA[medium.plural]
    if not medium.suffixes:
        with pytest.raises(BadInput, match=r"makes numbers of shape \(12,\), not pictures"):
            medium.to_bytes(data, "{}")
        with pytest.raises(BadInput, match="no unnoise recipe"):
            medium.read_record(tmp_path / "x.npy")
        return
    path = put(tmp_path / f"x{medium.suffixes[0]}", medium.to_bytes(data, '{"seed": 7}'), False)
    assert of_file(path) is medium and read_record(path) == {"seed": 7}
    assert np.array_equal(medium.read(path).pixels, data)


@pytest.mark.parametrize("medium", [MEDIA[name] for name in DATA], ids=list(DATA))
def test_what_a_mask_leaves_alone_keeps_its_values(medium):
    data = DATA[medium.plural]
    of, new = medium.read(data), data[::-1].copy()
    mask = np.zeros(data.shape[:2] if medium is PICTURES else data.shape)
    mask[0], mask[1] = 1, 0.5
    out = medium.keep(of, new, mask)
    assert np.array_equal(out[0], new[0]) and np.array_equal(out[2:], data[2:])
    assert np.allclose(out[1], (data[1].astype(float) + new[1]) / 2, atol=1)
    with pytest.raises(BadInput, match="mask"):
        medium.mask(np.ones((9, 9), np.uint8), of)


def test_pictures_are_shown_and_numbers_are_not():
    picture = DATA["pictures"]
    assert PICTURES.show(picture).size == (5, 4) and PICTURES.sheet(np.stack([picture] * 3)).size == (10, 8)
    for ask in (NUMBERS.show, PICTURES.show):
        with pytest.raises(BadInput, match=r"not pictures: use result\.arrays"):
            ask(DATA["numbers"])


def test_every_medium_is_tried():
    assert set(MEDIA) == {*DATA, "tables"}, "tables: test_table.py"


def test_one_sentence_begins_what_a_model_cannot_do():
    assert makes("moons", NUMBERS) == "model 'moons' makes numbers"


def test_a_file_of_no_known_ending_is_asked_for_as_a_picture(tmp_path):
    assert of_file("x.PNG") is PICTURES is of_file("x") is of_file("x.jpg")


class Letters:
    """A medium whose samples go into one file."""

    suffixes, together = (".txt", ".text"), True


def test_samples_of_one_file_have_one_name(tmp_path):
    names = named(tmp_path / "x.txt", ["1", "2"], medium=Letters())
    assert names.files == (tmp_path / "x.txt",) and names.grid is None
    assert named(tmp_path, ["1", "2"], medium=Letters()).files == (tmp_path / "samples.txt",)
    (tmp_path / "x.txt").touch()
    assert named(tmp_path / "x.txt", ["1"], medium=Letters()).files == (tmp_path / "x-2.txt",)
    with pytest.raises(BadInput, match=r"stored in TXT or TEXT files, name one \(given .png\)"):
        named(tmp_path / "x.png", ["1"], medium=Letters())
