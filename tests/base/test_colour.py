import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.oracles import colour_name, main_colour
from unnoise.base.colour import GROUNDS, LAB, NAMED, dominant, oklab, recolour, srgb
from unnoise.data.emoji import TRAINABLE, load_emoji
from unnoise.data.nouns import NOUNS

byte = st.integers(0, 255)


@given(st.tuples(byte, byte, byte))
@settings(max_examples=300)
def test_oklab_and_back(rgb):
    assert np.abs(srgb(oklab(np.array(rgb, dtype=np.uint8))).astype(int) - rgb).max() <= 1


def test_oklab_of_the_papers_table():
    """XYZ pairs of Ottosson's page, through sRGB's own definition: white, and the pure colours as his
    reference code gives them.
    """
    known = {
        (255, 255, 255): (1.0, 0.0, 0.0),
        (255, 0, 0): (0.62796, 0.22486, 0.12585),
        (0, 255, 0): (0.86644, -0.23389, 0.17950),
        (0, 0, 255): (0.45201, -0.03246, -0.31153),
        (0, 0, 0): (0.0, 0.0, 0.0),
    }
    for rgb, lab in known.items():
        np.testing.assert_allclose(oklab(np.array(rgb, dtype=np.uint8)), lab, atol=2e-4)


@pytest.mark.parametrize("name", NAMED)
def test_each_name_is_seen_as_itself(name):
    assert colour_name(NAMED[name]) == name
    assert (
        name == "black"
        or colour_name(GROUNDS[name]) == name
        or (name, colour_name(GROUNDS[name])) == ("red", "pink")
    )


def test_a_recoloured_object_looks_as_named():
    """Every noun of the starter set, every vendor and colour, named by an independent rule from the pixels; 1
    in 50 may be in doubt.
    """
    emoji, wrong, all_of_them = load_emoji("emoji-starter"), [], 0
    for i in range(0, len(emoji), 3):
        if emoji.concepts[emoji.concept[i]].label not in NOUNS:
            continue
        rgba = emoji.rgba(i)
        seen = rgba[..., 3] > 200
        for name in NAMED:
            painted = recolour(rgba, name)
            assert painted.dtype == np.uint8 and (painted[..., 3] == rgba[..., 3]).all()
            all_of_them += 1
            if main_colour(painted[seen][:, :3]) != name:
                wrong.append((emoji.label(i), emoji.styles[emoji.style[i]], name))
    assert all_of_them > 1500 and len(wrong) < all_of_them / 50, wrong


def test_greys_stay_on_a_coloured_object_and_shading_survives():
    rgba = np.zeros((3, 8, 4), dtype=np.uint8)
    rgba[..., 3] = 255
    rgba[0, :, :3] = np.linspace((90, 0, 0), (255, 90, 90), 8)  # a shaded red part
    rgba[1, :, :3], rgba[2, :, :3] = (200, 30, 30), (128, 128, 128)  # a plain one, and a tyre
    blue = recolour(rgba, "blue")
    assert (blue[2, :, :3] == 128).all() and main_colour(blue[:2, :, :3].reshape(-1, 3)) == "blue"
    light = oklab(blue[0, :, :3])[:, 0]
    assert (np.diff(light) > 0).all() and abs(
        np.median(oklab(blue[:2, :, :3])[..., 0]) - LAB["blue"][0]
    ) < 0.03
    ghost = rgba[1:2].copy()
    ghost[..., :3] = 240
    assert (
        main_colour(recolour(ghost, "green")[0, :, :3]) == "green"
    )  # an object without any colour is painted all over


def test_only_free_artwork_is_trained_on():
    from unnoise.data.sources import ARTWORK, FREE

    assert set(FREE) == {"Apache-2.0", "MIT", "CC-BY-4.0"}
    assert {a.style for a in ARTWORK if not a.trainable} == {"openmoji", "emojione"} and TRAINABLE["noto"]
    assert all(a.authors and a.link and a.licence for a in ARTWORK)


def test_the_dominant_colour_of_painted_things_is_their_paint():
    """Against the same independent rule, on white and on a ground of the object's own family; a blank picture
    has none.
    """
    emoji, right, n = load_emoji("emoji-starter"), 0, 0
    for i in range(0, len(emoji), 5):
        if emoji.concepts[emoji.concept[i]].label not in NOUNS:
            continue
        for name in NAMED:
            rgba = recolour(emoji.rgba(i), name).astype(float)
            for ground in ("white", "blue" if name != "blue" else "yellow"):
                over = rgba[..., 3:] / 255
                picture = np.rint(over * rgba[..., :3] + (1 - over) * np.array(GROUNDS[ground])).astype(
                    np.uint8
                )
                right, n = right + (dominant(picture) == name), n + 1
    assert n > 1500 and right > 0.9 * n, (right, n)
    assert dominant(np.full((8, 8, 3), 77, np.uint8)) is None
