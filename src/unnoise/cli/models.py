"""`unnoise models`: the models that come with the package, or what a model folder holds."""
from __future__ import annotations

from typing import Annotated, Optional

import typer

from unnoise.cli.common import emit


def models(
    name: Annotated[Optional[str], typer.Argument(help="A bundled model or a model folder, to look inside.")] = None,  # noqa: UP045
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """List the bundled models, or show what one holds."""
    from unnoise import hub

    if name is None:
        rows = [_row(n) for n in hub.bundled()]
        return emit({"models": rows}, as_json, "\n".join(f"{r['name']:16}{r['kind']:12}{r['bytes'] / 1e6:6.1f} MB" for r in rows))
    f = hub.load(name)
    d = {"name": f.name, "kind": f.kind, "parameters": sum(p.numel() for p in f.net.parameters()), "codec": f.codec.config(),
         "words": list(f.words.words) if f.words else None, "process": f.process.model_dump() if f.process else None,
         "defaults": f.defaults, "sha256": f.sha256, "folder": str(hub.find(name))}
    emit(d, as_json)


def _row(name: str) -> dict:
    from unnoise import hub

    folder = hub.BUNDLED / name
    index = hub.read_json(folder / "model_index.json")
    kind = next((k for k in hub.NETS if k in index), "?")
    return {"name": name, "kind": kind, "bytes": sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())}
