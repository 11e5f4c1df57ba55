"""The picture of docs/edit/invert.md: `python docs/edit/invert_pictures.py [--model emoji]`.

prompt_to_prompt.png   prompts, the same seeds under another prompt by prompt-to-prompt, and without it; and a
                       real picture changed
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

import unnoise
from unnoise.edit import prompt_to_prompt
from unnoise.show import sheet
from unnoise.worlds.emoji.scenes import Scenes

PAIRS = (
    ("a red apple", "a green apple"),
    ("a cat", "a blue cat"),
    ("a car on a blue background", "a dog on a blue background"),
)


def drawn(pipe: unnoise.Pipeline, source: str, prompt: str) -> list[Image.Image]:
    """Two seeds: source, edited, and what the seed gives of the new prompt by itself."""
    how = {"seed": 1, "num_images": 2, "sampler": "ddim"}
    r = prompt_to_prompt(pipe, prompt=prompt, source=source, **how)
    assert r.source is not None
    alone = pipe(prompt, **how).arrays
    return [Image.fromarray(np.asarray(a)) for i in range(2) for a in (r.source[i], r.arrays[i], alone[i])]


def real(pipe: unnoise.Pipeline, colours: tuple[str, ...] = ("red", "green", "blue")) -> list[Image.Image]:
    """A real picture of one thing in colours, everywhere and only where its word looks."""
    picture, _, a = Scenes("emoji", "test", {"plain": 1.0}, 300).scene(0, 0)
    noun = a.nouns[0]
    made = [prompt_to_prompt(pipe, picture, f"a {c} {noun}", source=f"a {noun}").arrays[0] for c in colours]
    local = [
        prompt_to_prompt(pipe, picture, f"a {c} {noun}", source=f"a {noun}", local=[noun]).arrays[0]
        for c in colours[:2]
    ]
    return [Image.fromarray(x) for x in (picture, *made, *local)]


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--model", default="emoji")
    p.add_argument("--out", type=Path, default=Path(__file__).parent)
    a = p.parse_args()
    pipe = unnoise.load(a.model)
    rows = [drawn(pipe, *pair) for pair in PAIRS] + [real(pipe)]
    names = [f"{s} to {t.split(' on ')[0]}" for s, t in PAIRS] + ["a real picture"]
    sheet(
        rows,
        ["source", "edited", "alone"] * 2,
        names,
        "prompt-to-prompt; last row: real, red, green, blue, red and green by its word alone",
        "",
        least=64,
    ).quantize(128).save(a.out / "prompt_to_prompt.png", optimize=True)


if __name__ == "__main__":
    main()
