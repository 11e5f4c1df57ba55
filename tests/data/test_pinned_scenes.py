"""The first world's vocabulary, by name: which things a narrowed one keeps, how often each is shown, what is kept for tests."""
import numpy as np
import pytest

from unnoise.data.emoji import TRAINABLE, load_emoji
from unnoise.data.nouns import HELD_OUT, NOUNS
from unnoise.data.scenes import commonest


@pytest.fixture(scope="module")
def emoji():
    return load_emoji("emoji-starter")


def labels(emoji, ks) -> list[str]:
    return [emoji.concepts[k].label for k in ks]


def vendors(emoji, k: int) -> int:
    """How many plain pictures of a concept free vendors drew."""
    return sum(TRAINABLE[emoji.styles[s]] and t == 0 for s, t in zip(emoji.style[emoji.concept == k], emoji.tone[emoji.concept == k]))


def test_a_narrowed_world_keeps_what_most_vendors_drew(emoji):
    kept = commonest(emoji, 20).tolist()
    drawn = np.array([vendors(emoji, k) for k in range(len(emoji.concepts))])
    nouns = [k for k, c in enumerate(emoji.concepts) if c.label in NOUNS and c.label not in HELD_OUT]
    others = [k for k, c in enumerate(emoji.concepts) if c.label not in NOUNS and c.group != "flags" and c.subgroup != "time"]
    assert sum(k in nouns for k in kept) == 16 and sum(k in others for k in kept) == 4  # four fifths and one
    for some in (nouns, others):
        assert min(drawn[k] for k in kept if k in some) >= max(drawn[k] for k in some if k not in kept) > min(drawn[some])
    assert labels(emoji, kept) == ["ghost", "red heart", "thumbs up", "ear", "eye", "person getting haircut", "snowboarder", "monkey", "dog", "wolf", "cat",
                                   "ewe", "elephant", "mouse", "rat", "chipmunk", "panda", "chicken", "rooster", "fork and knife"]
