"""Which nouns the second world keeps from training: `python recipes/default/held_out.py` prints them (they
are pinned in unnoise.worlds.emoji.names).

Of the nouns that seven or more free vendors drew, the 24 with the lowest word frequency: of the emoji's label
and its noun the commoner one counts ("locked" keeps the padlock in). Needs the package wordfreq (3.1.1 was
used), which nothing else here does.
"""

from __future__ import annotations

import numpy as np
from wordfreq import word_frequency  # pyright: ignore[reportMissingImports]

from unnoise.data.emoji import TRAINABLE, load_emoji
from unnoise.data.nouns import NOUNS, plain

VENDORS, KEPT = 7, 24


def main() -> None:
    emoji = load_emoji()
    free = np.array([TRAINABLE[s] for s in emoji.styles])[emoji.style]
    drawn = np.bincount(
        [c for c, _ in {*zip(emoji.concept[free].tolist(), emoji.style[free].tolist())}],
        minlength=len(emoji.concepts),
    )
    labels = [c.label for c, n in zip(emoji.concepts, drawn) if c.label in NOUNS and n >= VENDORS]
    names = {label: (plain(label), NOUNS[label]) for label in labels}
    often = {label: max(word_frequency(w, "en") for w in words) for label, words in names.items()}
    print(tuple(sorted(sorted(labels, key=lambda label: (often[label], label))[:KEPT])))


if __name__ == "__main__":
    main()
