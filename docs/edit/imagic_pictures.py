"""The picture of docs/edit/imagic.md: `python docs/edit/imagic_pictures.py [--model emoji] [--quick]
[--json]`.

    imagic.png   three real pictures, each between itself (eta 0) and a prompt (eta 1)

Also told: the distance to the picture at each eta, root mean square of 255.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

import unnoise
from unnoise.edit import imagic
from unnoise.pipeline import picture
from unnoise.show import sheet
from unnoise.worlds.emoji.scenes import Scenes

ETAS = (0.0, 0.25, 0.5, 0.75, 1.0)
CASES = (
    ("red apple", "a green apple"),
    ("automobile", "a blue automobile"),
    ("dog face", "a dog face on a yellow background"),
)


def real(thing: str, size: int = 64) -> np.ndarray:
    """The first plain training picture of a thing, on white."""
    emoji = Scenes("emoji", "train", {"plain": 1.0}, 300).emoji
    from unnoise.edit.picture import resized

    return resized(emoji.image(emoji.find(thing)[0]), (size, size))


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--model", default="emoji")
    p.add_argument("--out", type=Path, default=Path(__file__).parent)
    p.add_argument("--steps", type=int, default=100, help="of each training")
    p.add_argument("--quick", action="store_true", help="2 training steps, 2 steps of drawing")
    p.add_argument("--json", action="store_true")
    a = p.parse_args()
    pipe, steps = unnoise.load(a.model), 2 if a.quick else a.steps
    how: dict[str, Any] = {"num_inference_steps": 2} if a.quick else {}
    rows, far = [], []
    for thing, prompt in CASES:
        source = real(thing)
        made = imagic(
            pipe, source, prompt, eta=ETAS, seed=0, embedding_steps=steps, tuning_steps=steps, **how
        )
        rows.append([picture(source), *made.images])
        far.append([float(np.sqrt(np.mean((m.astype(float) - source) ** 2))) for m in made.arrays])
    image = sheet(
        rows, ["picture", *(f"{e:g}" for e in ETAS)], [prompt for _, prompt in CASES], "", "eta", least=64
    )
    image.quantize(128).save(a.out / "imagic.png", optimize=True)
    mean = {f"{e:g}": v for e, v in zip(ETAS, np.mean(far, 0).tolist())}
    print(
        json.dumps({"steps": steps, "distance": mean})
        if a.json
        else "\n".join(f"eta {e}: {d:.1f}" for e, d in mean.items())
    )


if __name__ == "__main__":
    main()
