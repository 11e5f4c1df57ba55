"""`unnoise models`: the models that come with the package, or what a model folder holds."""

from __future__ import annotations

from typing import Annotated

import typer

from unnoise import DEFAULT_MODEL
from unnoise.base.errors import BadInput
from unnoise.cli.common import emit


def models(
    name: Annotated[
        str | None, typer.Argument(help="A bundled model or a model folder, to look inside.")
    ] = None,
    like: Annotated[
        str | None,
        typer.Argument(
            metavar="[LIKE]", help="With --words: only words that hold this or are spelled like it."
        ),
    ] = None,
    words: Annotated[
        bool, typer.Option("--words", help="List the words that the model was taught, and what each means.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """List the bundled models, or show what one holds."""
    from unnoise import hub

    if like is not None and not words:
        raise BadInput(f"{like!r} is one argument too many: unnoise models NAME --words LIKE looks for words")
    if words:
        return _words(name or DEFAULT_MODEL, like or "", as_json)
    if name is not None:
        return emit(_inside(name), as_json)
    rows = [_row(n) for n in hub.bundled()]
    lines = (f"{r['name']:16}{r['kind']:12}{r['bytes'] / 1e6:6.1f} MB" for r in rows)
    return emit({"models": rows}, as_json, "\n".join(lines))


def _inside(name: str) -> dict:
    """What a model folder holds."""
    from unnoise import hub

    f = hub.load(name)
    return {
        "name": f.name,
        "kind": f.kind,
        "parameters": sum(p.numel() for p in f.net.parameters()),
        "codec": f.codec.config(),
        "words": list(f.words.words) if f.words else None,
        "process": f.process.model_dump() if f.process else None,
        "defaults": f.defaults,
        "sha256": f.sha256,
        "folder": str(hub.find(name)),
    }


def _words(name: str, like: str, as_json: bool) -> None:
    """The words that a model was taught; of one with a closed vocabulary, its words."""
    from unnoise import hub
    from unnoise.text import known

    told = known.load(hub.find(name))
    if told is not None:
        found = [{"word": w, "means": list(meant)} for w, meant in told.listed(like)]
    else:
        own = hub.load(name).words
        if own is None:
            raise BadInput(f"model {name!r} does not say which words it was taught")
        found = [{"word": w, "means": [w]} for w in own.words if like.lower() in w.lower()]
    if not found:
        raise BadInput(
            f"model {name!r} was taught no word like {like!r}: `unnoise models {name} --words` lists them"
        )
    lines = (
        q["word"] if q["means"] == [q["word"]] else f"{q['word']}: {', '.join(q['means'])}" for q in found
    )
    emit({"model": name, "words": found}, as_json, "\n".join(lines))


def _row(name: str) -> dict:
    from unnoise import hub
    from unnoise.nets.table import NETS

    folder = hub.BUNDLED / name
    index = hub.read_json(folder / "model_index.json")
    kind = next((k for k in NETS if k in index), "?")
    return {
        "name": name,
        "kind": kind,
        "bytes": sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()),
    }
