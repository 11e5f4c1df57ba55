"""The bundled starter set of emoji, as it was made once from the whole set: `python recipes/starter.py`.

About a thousand pictures of 32 x 32, of Apache and MIT artwork alone: nouns and other things, the first by
hash, and the tones of one hand.
"""

from __future__ import annotations

from PIL import Image

from unnoise.base.write import put
from unnoise.data.draw import fate
from unnoise.data.emoji import STARTER, Concept, Emoji, load_emoji
from unnoise.data.nouns import HELD_OUT, NOUNS
from unnoise.data.prepare import Book, _webp, attribution, pack
from unnoise.data.sources import ARTWORK

MOST_NOUNS, MOST_OTHERS, MOST_SECRET = 130, 40, 6
ALWAYS = (
    "red apple",
    "cat",
    "automobile",
    "waving hand",
    "thumbs up",
    "grinning face",
    "red heart",
    "rocket",
)
FREE = {a.style for a in ARTWORK if a.licence in ("Apache-2.0", "MIT")}


def images(emoji: Emoji) -> list[int]:
    """The numbers of the pictures that the starter set holds."""
    drawn = {k for k, style in enumerate(emoji.styles) if style in FREE}
    kept = _concepts(emoji, drawn)

    def holds(i: int) -> bool:
        label = emoji.concepts[emoji.concept[i]].label
        toned = label == "waving hand" and emoji.tone[i] < 6
        return emoji.style[i] in drawn and label in kept and (emoji.tone[i] == 0 or toned)

    return [i for i in range(len(emoji)) if holds(i)]


def _concepts(emoji: Emoji, drawn: set[int]) -> set[str]:
    """Their labels: nouns that 5 of these vendors draw, other things that 4 do, a few that training hides."""
    ranked = sorted(emoji.concepts, key=lambda c: (c.label not in ALWAYS, fate("starter", c.label)))
    vendors: dict[Concept, int] = {
        c: len({int(s) for s in emoji.style[emoji.concept == k]} & drawn)
        for k, c in enumerate(emoji.concepts)
    }
    trained = [c for c in ranked if c.label in NOUNS and c.label not in HELD_OUT and vendors[c] >= 5]
    others = [c for c in ranked if c.label not in NOUNS and vendors[c] >= 4]
    secret = [c for c in ranked if c.label in HELD_OUT]
    return {c.label for c in (*trained[:MOST_NOUNS], *others[:MOST_OTHERS], *secret[:MOST_SECRET])}


def write(emoji: Emoji, size: int = 32) -> None:
    """Write the bundled set and who drew it."""
    STARTER.parent.mkdir(exist_ok=True)
    book = Book(emoji.concepts, emoji.variants, {}, {}, {})
    drawn = [
        (int(emoji.variant[i]), int(emoji.style[i]), _webp(Image.fromarray(emoji.rgba(i)), size))
        for i in images(emoji)
    ]
    put(STARTER, pack(book, size, drawn))
    put(STARTER.with_name("ATTRIBUTION.md"), attribution(Emoji(STARTER)).encode())


if __name__ == "__main__":
    write(load_emoji())
