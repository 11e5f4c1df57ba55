"""The default model's tokenizer: CLIP's byte pairs, trained on the captions of the emoji world.

python recipes/tokenizer.py --out runs/tokenizer [--size 3000] [--captions 100000] [--length 32] [--concepts
0]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from unnoise.data.nouns import NOUNS, plain, plural
from unnoise.text.tokenizer import Tokenizer
from unnoise.worlds.emoji.scenes import Scenes


def texts(scenes: Scenes, n: int):
    """Captions of n scenes, every label and tag (also of concepts that pictures are not shown of), every noun
    alone and in numbers.
    """
    for i in range(n):
        yield scenes.caption(0, i)
    for concept in scenes.emoji.concepts:
        yield plain(concept.label)
        yield from concept.tags
    for noun in NOUNS.values():
        yield from (noun, plural(noun)) * 5


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--size", type=int, default=3000)
    p.add_argument("--captions", type=int, default=100_000)
    p.add_argument("--length", type=int, default=32)
    p.add_argument("--set", default="emoji")
    a = p.parse_args()
    tokenizer = Tokenizer.train(texts(Scenes(a.set), a.captions), a.size, a.length)
    print(tokenizer.save(a.out), tokenizer.size, "tokens")


if __name__ == "__main__":
    main()
