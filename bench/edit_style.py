"""Style from one picture on the default model: how near the Gram matrices come to the reference's, and what
it costs the thing asked for.

    python -m bench.edit_style [--model emoji] [--n 40] [--first 4] [--seed 3000] [--steps 20] [--json]
    [--quick] [--sheet docs/edit/style.png]

n nouns, each with a reference of its own: a held-out real picture of another noun. noun: how often the judge
names the thing. gram: the relative squared distance of the judge's Gram matrices to the reference's, the mean
over pictures; nearer: how much of the unguided distance is gone. The loss is guided by the very numbers that
`gram` is made of, so two things that no method is guided by stand beside it: the same distance of the Gram
matrices of CLIP's image encoder (its patches after each of the first four layers), and the cosine of CLIP's
vectors of picture and reference (it knows what is shown as well as how). drawer: how often the judge takes
the picture for one of the reference's vendor (of the references themselves in the first row's "real").
chance: the distance to the references of other rows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

import unnoise
from bench import common
from unnoise.data.nouns import phrase
from unnoise.edit import style
from unnoise.guide import losses
from unnoise.nets.clip import prepare
from unnoise.pipeline import Pipeline, guides
from unnoise.worlds.emoji.scenes import Scenes

Features = Callable[[torch.Tensor], Sequence[torch.Tensor]]
CASES = (("aligned", 1.0), ("aligned", 2.0), ("loss", 0.5), ("loss", 1.0))


def references(nouns: Sequence[str], emoji: str = "emoji") -> list[tuple[np.ndarray, str, str]]:
    """A held-out real picture for each noun, of another noun, what it shows, and whose style it is."""
    scenes, out = Scenes(emoji, "test", {"plain": 1.0}, 300), []
    for i, noun in enumerate(nouns):
        k = next(k for k in range(1000 * i, 1000 * i + 1000) if scenes.attributes(0, k).concepts[0] != noun)
        a = scenes.attributes(0, k)
        out.append((scenes.render(a), phrase(a.concepts[0]), a.style))
    return out


def distance(made: np.ndarray, refs: Sequence[np.ndarray], features: Features) -> float:
    x, like = (torch.from_numpy(np.stack([*a])).permute(0, 3, 1, 2).float() / 255 for a in (made, refs))
    with torch.no_grad():
        return float(losses.style(x, [losses.gram(f) for f in features(like)], features).mean())


def clip_layers(pipe: Pipeline, of: int = 4) -> Features:
    """Images in [0, 1] -> the patches (n, width, patches, 1) after each of the first layers of CLIP's image
    encoder.
    """
    net = guides.clip_for(pipe).net.vision_model

    def features(images: torch.Tensor) -> list[torch.Tensor]:
        hidden, out = (
            net.pre_layrnorm(net.embeddings(prepare(images * 2 - 1, net.config.image_size), None)),
            [],
        )
        for layer in list(net.encoder.layers)[:of]:
            out.append(hidden := layer(hidden, False))
        return [h[:, 1:].transpose(1, 2)[..., None] for h in out]

    return features


def measured(
    pipe: Pipeline, nouns: Sequence[str], steps: int, seed: int, batch: int, adapter: str = ""
) -> tuple[list[dict], list[list[Any]]]:
    """A row a method, and the first pictures of each."""
    judge, both = guides.judge(), guides.clip_for(pipe)
    seen, other = guides.trunk(judge), clip_layers(pipe)
    said, told = judge.heads["noun"], references(nouns)
    refs = [r for r, _, _ in told]
    drawn_by = lambda answers: float(
        np.mean([judge.heads["style"][k] == s for k, (_, _, s) in zip(answers["style"].argmax(1), told)])
    )
    plain = pipe(
        [phrase(n) for n in nouns],
        seed=[seed + i for i in range(len(nouns))],
        num_inference_steps=steps,
        batch_size=batch,
    ).arrays
    rows, shown = [], [refs[:6], list(plain[:6])]
    for method, amount in (("none", 0.0), *CASES, *([("adapter", 1.0), ("adapter", 2.0)] if adapter else [])):
        began = time.perf_counter()
        made = (
            plain
            if method == "none"
            else np.concatenate(
                [
                    style(
                        pipe,
                        r,
                        phrase(n),
                        method=method,
                        amount=amount,
                        reference_prompt=of,
                        seed=seed + i,
                        num_inference_steps=steps,
                        adapter=adapter if method == "adapter" else None,
                    ).arrays
                    for i, (n, (r, of, _)) in enumerate(zip(nouns, told))
                ]
            )
        )
        seconds = (time.perf_counter() - began) / len(nouns)
        answers = judge.look(made).answers
        right = [said[k] == n for k, n in zip(answers["noun"].argmax(1), nouns)]
        cosine = float((both.images(made) * both.images(np.stack(refs))).sum(1).mean())
        d, c = distance(made, refs, seen), distance(made, refs, other)
        first = rows[0] if rows else {"gram": d, "clip gram": c}
        rows.append(
            {
                "method": method,
                "amount": amount,
                "noun": float(np.mean(right)),
                "drawer": drawn_by(answers),
                "gram": d,
                "nearer": 1 - d / first["gram"],
                "clip gram": c,
                "clip nearer": 1 - c / first["clip gram"],
                "clip cosine": cosine,
                "seconds a picture": seconds,
            }
        )
        if method != "none":
            shown.append(list(made[:6]))
    rows[0]["drawer, real"] = drawn_by(judge.look(np.stack(refs)).answers)
    rows[0]["chance"] = distance(plain, refs[1:] + refs[:1], seen)
    return rows, shown


def main(argv: list[str] | None = None) -> None:
    p = common.of_nouns(__doc__)
    p.add_argument(
        "--adapter", default="", help="also measure the adapter in this file (recipes/style.py trains one)"
    )
    a = p.parse_args(argv)
    pipe, nouns = unnoise.load(a.model), common.nouns(a)
    rows, shown = measured(pipe, nouns, a.steps, a.seed, a.batch, a.adapter)
    if a.sheet:
        common.of_pictures(
            shown,
            ["reference", "unguided", *(f"{r['method']} {r['amount']:g}" for r in rows[1:])],
            nouns,
            a.sheet,
        )
    common.report("edit_style", rows, a.json, n=a.n, steps=a.steps, model=pipe.sha256[:12])


if __name__ == "__main__":
    main()
