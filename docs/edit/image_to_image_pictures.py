"""The pictures and figures of docs/edit/image_to_image.md: `python docs/edit/image_to_image_pictures.py
[--model emoji] [--json]`.

strength.png   three real pictures, taken up to seven strengths and down again under another prompt; and how
               far they went, over 32 pictures
sketch.png     a drawing of a few strokes, finished at four seeds and three strengths
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import unnoise
from unnoise.edit import image_to_image
from unnoise.show import Curve, plot, sheet
from unnoise.worlds.emoji.scenes import Scenes

STRENGTHS = (0.0, 0.2, 0.4, 0.5, 0.6, 0.8, 1.0)
PROMPT = "a green apple"


def real(n: int) -> list[np.ndarray]:
    """Plain held-out pictures of single things."""
    scenes = Scenes("emoji", "test", {"plain": 1.0}, 300)
    return [scenes.scene(0, i)[0] for i in range(n)]


def strengths(pipe: unnoise.Pipeline, pictures: list[np.ndarray]) -> tuple[Image.Image, dict[float, float]]:
    """The sheet, and the mean distance to the source (root mean square, of 255) at each strength."""
    made = {
        s: [image_to_image(pipe, p, PROMPT, strength=s, seed=i) for i, p in enumerate(pictures)]
        for s in STRENGTHS
    }
    far = {
        s: float(
            np.mean([np.sqrt(np.mean((r.arrays[0].astype(float) - p) ** 2)) for r, p in zip(rs, pictures)])
        )
        for s, rs in made.items()
    }
    rows = [[made[s][i].images[0] for s in STRENGTHS] for i in range(3)]
    top = sheet(rows, [f"{s:g}" for s in STRENGTHS], ["", "", ""], f'to "{PROMPT}"', "strength", least=64)
    below = plot(
        f"distance to the source, rms of 255, mean of {len(pictures)} pictures",
        "strength",
        [Curve(list(STRENGTHS), list(far.values()), (31, 119, 180), "")],
        (max(top.width, 420), 200),
    )
    image = Image.new("RGB", (max(top.width, below.width), top.height + below.height), "white")
    image.paste(top, (0, 0))
    image.paste(below, (0, top.height))
    return image, far


def drawing() -> Image.Image:
    """A car in a few strokes."""
    im = Image.new("RGB", (64, 64), "white")
    d = ImageDraw.Draw(im)
    d.polygon(
        [(8, 42), (12, 32), (22, 30), (28, 20), (46, 20), (52, 31), (58, 34), (58, 42)], fill=(200, 40, 40)
    )
    d.rectangle((30, 23, 44, 30), fill=(190, 220, 240))
    for x in (20, 47):
        d.ellipse((x - 6, 37, x + 6, 49), fill=(40, 40, 40))
    return im


def sketch(pipe: unnoise.Pipeline) -> Image.Image:
    source, chosen = drawing(), (0.5, 0.65, 0.8)
    rows = [
        [source, *image_to_image(pipe, source, "a red car", strength=s, seed=0, num_images=4).images]
        for s in chosen
    ]
    return sheet(
        rows, ["drawn", "0", "1", "2", "3"], [f"{s:g}" for s in chosen], 'to "a red car"', "seed", least=64
    )


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--model", default="emoji")
    p.add_argument("--out", type=Path, default=Path(__file__).parent)
    p.add_argument("--json", action="store_true")
    a = p.parse_args()
    pipe = unnoise.load(a.model)
    image, far = strengths(pipe, real(32))
    image.quantize(128).save(a.out / "strength.png", optimize=True)
    sketch(pipe).quantize(128).save(a.out / "sketch.png", optimize=True)
    print(
        json.dumps({"distance": far})
        if a.json
        else "\n".join(f"strength {s:g}: {d:.1f}" for s, d in far.items())
    )


if __name__ == "__main__":
    main()
