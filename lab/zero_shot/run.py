"""Can our CLIP name pictures in a style that it has never seen? Softmax against sigmoid loss, by as many
training steps.

    python lab/zero_shot/run.py --softmax emoji --sigmoid runs/siglip/model [--quick] [--json]

Pictures: OpenMoji and EmojiOne 1, the share-alike sets that nothing here is trained on, of every concept that
the world knows. A picture's name is the one whose texts ("a cat", "cat emoji", "a picture of a cat") lie
nearest, among all names. Beside the share right: the same on test pictures of the styles seen in training,
and guessing. The standard error is over pictures; names a picture in a set are one draw.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from unnoise.data.emoji import Emoji, load_emoji
from unnoise.data.nouns import phrase
from unnoise.hub import parts
from unnoise.worlds.emoji.scenes import Scenes

WAYS = ("{}", "{} emoji", "a picture of {}")


def pictures(
    emoji: Emoji, split: str, labels: tuple[str, ...], most: int | None
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """{style: (pictures, the numbers of their names)}, without skin tones."""
    number = {label: i for i, label in enumerate(labels)}
    found: dict[str, list[int]] = {}
    for i in emoji.members(split).tolist():
        if emoji.concepts[emoji.concept[i]].label in number and emoji.tone[i] == 0:
            found.setdefault(emoji.styles[emoji.style[i]], []).append(i)
    pick = lambda rows: rows[:: max(len(rows) // most, 1)][:most] if most else rows
    return {
        s: (
            np.stack([emoji.image(i) for i in pick(rows)]),
            np.array([number[emoji.concepts[emoji.concept[i]].label] for i in pick(rows)]),
        )
        for s, rows in found.items()
    }


def named(clip: parts.Clip, labels: tuple[str, ...]) -> torch.Tensor:
    """One vector a name: the mean over ways of saying it."""
    return torch.stack([clip.texts([way.format(phrase(label)) for label in labels]) for way in WAYS]).mean(0)


def shares(clip: parts.Clip, sets: dict, labels: tuple[str, ...]) -> dict[str, dict]:
    texts, out = named(clip, labels), {}
    for style, (images, true) in sets.items():
        order = parts.similar(clip.images(images), texts).argsort(1, descending=True).numpy()
        top1, top5 = (order[:, 0] == true), (order[:, :5] == true[:, None]).any(1)
        out[style] = {
            "top1": float(top1.mean()),
            "top5": float(top5.mean()),
            "se": float((top1.mean() * (1 - top1.mean()) / len(true)) ** 0.5),
            "n": len(true),
        }
    return out


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--softmax", default="emoji")
    p.add_argument("--sigmoid", default="")
    p.add_argument("--concepts", type=int, default=300)
    p.add_argument("--quick", action="store_true")
    p.add_argument("--out", type=Path)
    p.add_argument("--json", action="store_true")
    a = p.parse_args()
    scenes = Scenes("emoji", concepts=a.concepts)
    emoji, labels, most = load_emoji("emoji"), scenes.labels, 40 if a.quick else None
    unseen, seen = pictures(emoji, "unseen", labels, most), pictures(emoji, "test", labels, None)
    seen = {"seen styles, unseen pictures": tuple(np.concatenate(x) for x in zip(*seen.values()))}
    report: dict = {"names": len(labels), "guessing": 1 / len(labels)}
    for loss, model in (("softmax", a.softmax), ("sigmoid", a.sigmoid)):
        if model:
            report[loss] = shares(parts.load_clip(model), {**unseen, **seen}, labels)
    if a.out:
        a.out.write_text(json.dumps(report, indent=1))
    print(json.dumps(report) if a.json else table(report))


def table(r: dict) -> str:
    """Markdown."""
    losses = [k for k in ("softmax", "sigmoid") if k in r]
    rows = [
        f"| top-1 (top-5) of {r['names']} names, % | " + " | ".join(losses) + " | n |",
        "|---|" + "---|" * (len(losses) + 1),
    ]
    for style in r[losses[0]]:
        cells = [
            f"{100 * r[k][style]['top1']:.1f} ± {100 * r[k][style]['se']:.1f}"
            f" ({100 * r[k][style]['top5']:.1f})"
            for k in losses
        ]
        rows.append(f"| {style} | " + " | ".join(cells) + f" | {r[losses[0]][style]['n']} |")
    guess = f"{100 * r['guessing']:.1f}"
    return "\n".join([*rows, f"| guessing | {' | '.join([guess] * len(losses))} | |"])


if __name__ == "__main__":
    from unnoise.cli.main import leave

    leave(main)  # errors in one line, as of every command
