"""The pictures of the default model in docs/, drawn by it as they come: `python docs/emoji_pictures.py
[--model emoji]`.

docs/emoji.png     60 captions by seeds 0 to 3, unpicked: nouns first, then held-out and seen scenes as the
                   evaluation asks for them
docs/mixing.png    "{cat:1-w|dog:w}" for rising w at three seeds, and what the judge sees: its share for each
                   of the two names
docs/negative.png  things under no negative prompt and under their own colour as one, unpicked
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image

import unnoise
from unnoise.show import Curve, plot, sheet
from unnoise.worlds.emoji.exam import asked, forbidden
from unnoise.worlds.judge import SCENES, load

ALWAYS = (
    "a red apple",
    "two red apples on their side",
    "a cat",
    "a blue car",
    "three green frogs",
    "a rocket upside down",
    "a smiling face",
    "a hand with three fingers",
    "a dog left of a house",
    "a purple guitar on a yellow background",
    "a small heart",
    "five balloons",
)
PAIR = ("cat", "dog")


def contact_sheet(pipe: unnoise.Pipeline) -> Image.Image:
    """60 captions x 4 consecutive seeds, two blocks of columns side by side."""
    items = asked(1000, load(form=SCENES))
    groups = {g: [i.prompt for i in items if i.group == g] for g in ("noun", "seen", "held out")}
    prompts = [*ALWAYS, *groups["noun"][::17][:20], *groups["seen"][:14], *groups["held out"][:14]][:60]
    drawn = pipe([p for p in prompts for _ in range(4)], seed=[s for _ in prompts for s in range(4)])
    rows = [drawn.images[4 * i : 4 * i + 4] for i in range(len(prompts))]
    blocks = [
        sheet(rows[k : k + 20], ["0", "1", "2", "3"], prompts[k : k + 20], over="seed", least=64, margin=150)
        for k in range(0, 60, 20)
    ]
    image = Image.new("RGB", (sum(b.width for b in blocks), max(b.height for b in blocks)), "white")
    x = 0
    for b in blocks:
        image.paste(b, (x, 0))
        x += b.width
    return image


def mixing(pipe: unnoise.Pipeline, seeds: int = 48) -> Image.Image:
    """Pictures on the way from one word to another, and the shares of `seeds` pictures that the judge gives
    each name.
    """
    judge, w = load(form=SCENES), [round(0.1 * k, 1) for k in range(11)]
    a, b = (judge.heads["noun"].index(n) for n in PAIR)
    shares, shown = ([], []), []
    for v in w:
        prompt = (
            f"a {PAIR[0]}"
            if v == 0
            else f"a {PAIR[1]}"
            if v == 1
            else f"{{a {PAIR[0]}:{1 - v:.1f}|a {PAIR[1]}:{v:.1f}}}"
        )
        result = pipe(prompt, seed=0, num_images=seeds)
        said = judge.look(result.arrays).answers["noun"].argmax(1)
        for share, label in zip(shares, (a, b)):
            share.append(float((said == label).mean()))
        shown.append(result.images[:3])
    top = sheet(
        [[column[i] for column in shown] for i in range(3)],
        [f"{v:g}" for v in w],
        ["seed 0", "seed 1", "seed 2"],
        f"{{a {PAIR[0]}: 1 - w | a {PAIR[1]}: w}}",
        "w",
        least=64,
    )
    curves = [Curve(w, s, c, n) for s, c, n in zip(shares, ((31, 119, 180), (214, 90, 30)), PAIR)]
    below = plot(
        f"share of {seeds} pictures that the judge calls a {PAIR[0]}, a {PAIR[1]}",
        "w",
        curves,
        (top.width, 260),
    )
    image = Image.new("RGB", (top.width, top.height + below.height), "white")
    image.paste(top, (0, 0))
    image.paste(below, (0, top.height))
    return image


def negative(pipe: unnoise.Pipeline, n: int = 10) -> Image.Image:
    """The first n things that the evaluation forbids their own colour, without and with the negative prompt,
    seed by seed.
    """
    cases = [c for c in forbidden(load(form=SCENES), 6 * n) if c.kind == "colour"][::3][:n]
    rows = [
        pipe([c.prompt for c in cases], negative_prompt=told, seed=list(range(len(cases)))).images
        for told in (None, [c.negative for c in cases])
    ]
    return sheet(
        rows, [f"not {c.negative}" for c in cases], ["no negative prompt", "its own colour"], least=64
    )


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--model", default="emoji")
    p.add_argument("--out", type=Path, default=Path(__file__).parent)
    p.add_argument("--only", default="", help="one of them: emoji, mixing, negative")
    a = p.parse_args()
    pipe = unnoise.load(a.model)
    for name, make in (("emoji", contact_sheet), ("mixing", mixing), ("negative", negative)):
        if a.only in ("", name):
            make(pipe).quantize(256).save(a.out / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
