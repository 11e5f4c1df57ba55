"""A sheet of what a model draws of a list of words, each with its word below: to be looked at.

python recipes/default/sheet.py runs/default/milestone/model words.txt --out sheet.png [--first 0 --count 200
--seed 0]

Words stand one a line; nouns get an article, whole prompts (with two words and an article or a number) are
taken as they are.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from PIL import Image, ImageDraw

import unnoise
from unnoise.data.nouns import article
from unnoise.worlds.emoji.names import several

SIDE, LINE, COLUMNS = 96, 13, 14
SAID = ("a ", "an ", "two ", "three ", "four ", "five ")


def prompt(word: str) -> str:
    return word if several(word) or word.startswith(SAID) else article(word)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("model")
    p.add_argument("words", type=Path)
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--first", type=int, default=0)
    p.add_argument("--count", type=int, default=1000)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--steps", type=int, default=20)
    p.add_argument("--guidance", type=float, default=3.0)
    a = p.parse_args()
    words = [w.strip() for w in a.words.read_text().splitlines() if w.strip()][a.first : a.first + a.count]
    pipe = unnoise.load(a.model)
    rows = -(-len(words) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * SIDE, rows * (SIDE + LINE)), "white")
    pen = ImageDraw.Draw(sheet)
    for k, word in enumerate(words):
        result = pipe(prompt(word), seed=a.seed, num_inference_steps=a.steps, guidance_scale=a.guidance)
        x, y = k % COLUMNS * SIDE, k // COLUMNS * (SIDE + LINE)
        sheet.paste(result.images[0].resize((SIDE, SIDE), Image.Resampling.BICUBIC), (x, y))
        pen.text((x + 2, y + SIDE), word[: SIDE // 6], fill="black")
    part = a.out.with_suffix(".part")
    sheet.save(part, format="png")
    os.replace(part, a.out)
    print(a.out, len(words), "words")


if __name__ == "__main__":
    main()
