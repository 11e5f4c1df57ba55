"""`unnoise tokens`: what the text encoder sees of a prompt: tokens, ids, weights, chunks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unnoise.base.arguments import string
from unnoise.base.errors import BadInput
from unnoise.cli.common import emit

if TYPE_CHECKING:
    from unnoise.text.prompts import Prompt
    from unnoise.text.tokenizer import Tokenizer


def tokens(
    text: Annotated[str, typer.Argument(help="The prompt.")],
    model: Annotated[
        str | None, typer.Option("--model", help="A model with a tokenizer: a name or a folder.")
    ] = None,
    tokenizer: Annotated[str | None, typer.Option("--tokenizer", help="Instead: a tokenizer folder.")] = None,
    steps: Annotated[
        int, typer.Option("--steps", help="Sampling steps, for prompts that change by step.")
    ] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Show how a prompt is read: each chunk's tokens, ids and weights, for each branch of a blend and each
    change by step.
    """
    from unnoise.text.prompts import parse
    from unnoise.text.tokenizer import Tokenizer

    if steps < 1:
        raise BadInput(f"--steps must be at least 1, given {steps}")
    string("the prompt", text)  # bytes that the locale cannot read arrive as lone surrogates
    tok = Tokenizer.load(_folder(model, tokenizer))
    variants = _variants(parse(text), tok, steps)
    d = {k: variants[0][k] for k in ("tokens", "ids", "weights", "chunks", "count")}
    if len(variants) > 1:
        d["variants"] = variants
    emit(d, as_json, "\n\n".join(_shown(v, tok, len(variants) > 1) for v in variants))


def _folder(model: str | None, tokenizer: str | None) -> Path:
    if (model is None) == (tokenizer is None):
        raise BadInput("give one of --model NAME-or-FOLDER (with a tokenizer/ in it) and --tokenizer FOLDER")
    if tokenizer is not None:
        return Path(tokenizer)
    from unnoise import hub

    path = hub.find(str(model)) / "tokenizer"
    if not path.is_dir():
        raise BadInput(
            f"model {model!r} has no tokenizer (there is no {path}): its prompts are not cut into tokens"
        )
    return path


def _variants(prompt: Prompt, tok: Tokenizer, steps: int) -> list[dict]:
    """One entry for each branch of each of the different prompts that the steps see, in order. Steps count
    from 0.
    """
    seen: dict = {}
    for i in range(steps if prompt.by_step else 1):
        seen.setdefault(prompt.at(i, steps), []).append(i)
    return [
        {"steps": at if prompt.by_step else list(range(steps)), "share": share, **_read(tok, segments)}
        for plain, at in seen.items()
        for share, segments in plain.branches
    ]


def _read(tok: Tokenizer, segments) -> dict:
    chunks = [(c.ids[1 : 1 + c.count], c.weights[1 : 1 + c.count]) for c in tok.chunks(segments)]
    ids = [i for c, _ in chunks for i in c]
    return {
        "tokens": [tok.name(i) for i in ids],
        "ids": ids,
        "weights": [w for _, ws in chunks for w in ws],
        "chunks": [list(c) for c, _ in chunks],
        "count": len(ids),
    }


def _shown(v: dict, tok: Tokenizer, several: bool) -> str:
    count, chunks, room = v["count"], len(v["chunks"]), tok.length - 2
    lines = [f"{_ranges(v['steps'])}, share {v['share']:.3g}"] if several else []
    lines.append(
        f"{count} token{'s' * (count != 1)} in {chunks} chunk{'s' * (chunks != 1)} of {room} (and start, end,"
        f" padding: {tok.length})"
    )
    entries = iter(zip(v["tokens"], v["ids"], v["weights"]))
    for k, chunk in enumerate(v["chunks"], 1):
        lines.append(f"chunk {k}: {len(chunk)} of {room}")
        for _, (token, i, w) in zip(chunk, entries):
            lines.append(f"  {i:>6}  {token}{'' if w == 1 else f'  × {w:.4g}'}")
    return "\n".join(lines)


def _ranges(steps: list[int]) -> str:
    """[0, 1, 2, 5] as "steps 0-2, 5"."""
    runs: list[list[int]] = []
    for i in steps:
        if runs and runs[-1][1] == i - 1:
            runs[-1][1] = i
        else:
            runs.append([i, i])
    return "steps " + ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)
