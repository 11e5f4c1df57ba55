import pickle

import numpy as np
import pytest

from unnoise.data import load
from unnoise.data.draw import fate
from unnoise.data.emoji import SPLITS, STARTER, load_emoji, over
from unnoise.data.nouns import HELD_OUT, NOUNS, article, plain, plural
from unnoise.data.sources import ARTWORK, SOURCES
from unnoise.errors import BadInput


@pytest.fixture(scope="module")
def emoji():
    return load_emoji("emoji-starter")


def test_the_starter_set_is_small_free_and_whole(emoji):
    assert 950 < len(emoji) < 1050 and emoji.size == 32 and STARTER.stat().st_size < 1.2e6
    licence = {a.style: a.licence for a in ARTWORK}
    assert {licence[emoji.styles[s]] for s in np.unique(emoji.style)} == {"Apache-2.0", "MIT"}
    notice = STARTER.with_name("ATTRIBUTION.md").read_text()
    for style, count in zip(*np.unique(emoji.style, return_counts=True)):
        assert f"| {emoji.styles[style]} |" in notice and f" {count} |" in notice
    assert all(STARTER.with_name(f"LICENSE-{name}.txt").is_file() for name in ("Apache-2.0", "MIT"))
    assert {s: len(emoji.members(s)) for s in SPLITS if s != "unseen"} == SOURCES["emoji-starter"].count


def test_pictures_and_their_measures(emoji):
    apple = emoji.find("red apple", "noto")[0]
    rgba, (x0, y0, x1, y1) = emoji.rgba(apple), emoji.box[apple]
    assert rgba.shape == (32, 32, 4) and rgba.dtype == np.uint8
    seen = rgba[..., 3] > 12
    assert (
        seen[y0:y1, x0:x1].sum() == seen.sum()
        and seen[y0].any()
        and seen[y1 - 1].any()
        and seen[:, x0].any()
        and seen[:, x1 - 1].any()
    )
    assert emoji.lab[apple][1] > 0.1  # red
    alpha = rgba[..., 3:] / 255
    np.testing.assert_allclose(emoji.image(apple), rgba[..., :3] * alpha + 255 * (1 - alpha), atol=0.5001)


def test_over_is_exact():
    rng = np.random.default_rng(0)
    rgba, ground = (
        rng.integers(0, 256, (9, 9, 4), dtype=np.uint8),
        rng.integers(0, 256, (9, 9, 3), dtype=np.uint8),
    )
    alpha = rgba[..., 3:].astype(np.float64) / 255
    np.testing.assert_array_equal(
        over(rgba, ground), np.floor(rgba[..., :3] * alpha + ground * (1 - alpha) + 0.4981)
    )


def test_load_gives_the_pictures_on_white(emoji):
    data = load("emoji-starter", "test")
    assert data.x.shape == (26, 32, 32, 3) and len(data.captions) == 26 and data.labels is None
    assert np.array_equal(data.x[3], emoji.image(int(emoji.members("test")[3])))
    assert data.caption(3) == emoji.label(int(emoji.members("test")[3]))
    with pytest.raises(BadInput, match="unseen"):
        load("emoji-starter", "unseen")


def test_splits_are_disjoint_fixed_and_leave_no_word_out(emoji):
    split = np.array(SPLITS)[emoji.split]
    for i in range(len(emoji)):
        concept, style = emoji.concepts[emoji.concept[i]].label, emoji.styles[emoji.style[i]]
        expected = (
            "personal"
            if concept in HELD_OUT
            else "test"
            if fate("emoji", concept, style) % 33 == 0
            else "train"
        )
        assert split[i] == expected
    trained = set(emoji.concept[emoji.members("train")])
    assert (
        set(emoji.concept[emoji.members("test")]) <= trained
        and not set(emoji.concept[emoji.members("personal")]) & trained
    )


def test_weights_are_balanced(emoji):
    w = emoji.weights("train")
    assert (
        w.sum() == pytest.approx(1)
        and (w[emoji.split != SPLITS.index("train")] == 0).all()
        and (w[emoji.members("train")] > 0).all()
    )
    share = {c.label: w[emoji.concept == k].sum() for k, c in enumerate(emoji.concepts)}
    assert share["red apple"] == pytest.approx(share["waving hand"])  # five tones or none
    waving = next(k for k, c in enumerate(emoji.concepts) if c.label == "waving hand")
    toned = (emoji.concept == waving) & (emoji.tone > 0)
    both = np.isin(emoji.style, np.unique(emoji.style[toned]))
    assert w[toned].sum() == pytest.approx(w[(emoji.concept == waving) & (emoji.tone == 0) & both].sum())
    assert share["man office worker"] == pytest.approx(0.4 * share["red apple"])


def test_a_worker_process_opens_its_own(emoji):
    again = pickle.loads(pickle.dumps(emoji))
    assert np.array_equal(again.rgba(5), emoji.rgba(5)) and again.concepts == emoji.concepts


@pytest.mark.parametrize("name", ["mnist", "emojis"])
def test_unknown_sets(name):
    with pytest.raises(BadInput, match="emoji-starter"):
        load_emoji(name)


def test_the_held_out_nouns_are_chosen_by_hash():
    assert len(HELD_OUT) == len(set(HELD_OUT)) == 24 and set(HELD_OUT) <= set(NOUNS)
    bar = max(fate("personal", label) for label in HELD_OUT)
    below = [label for label in NOUNS if fate("personal", label) <= bar]
    assert len(below) <= 40  # the others with such a hash have too few vendors


def test_nouns_in_english():
    assert [article(n) for n in ("apple", "unicorn", "hourglass", "t-shirt", "orange cat", "x-ray")] == [
        "an apple",
        "a unicorn",
        "an hourglass",
        "a t-shirt",
        "an orange cat",
        "an x-ray",
    ]
    assert [
        plural(n)
        for n in (
            "fox",
            "cherry",
            "key",
            "wolf",
            "sheep",
            "ear of corn",
            "bus",
            "watch",
            "snowman",
            "toothbrush",
        )
    ] == [
        "foxes",
        "cherries",
        "keys",
        "wolves",
        "sheep",
        "ears of corn",
        "buses",
        "watches",
        "snowmen",
        "toothbrushes",
    ]
    assert plain("Piñata’s “Å”") == 'pinata\'s "a"' and len(set(NOUNS.values())) == len(NOUNS)
    colours = {
        "red",
        "orange",
        "yellow",
        "green",
        "blue",
        "purple",
        "pink",
        "brown",
        "grey",
        "black",
        "white",
    }
    assert not [n for n in NOUNS.values() if set(n.split()) & colours]
