"""`unnoise fetch`: a published Stable Diffusion folder from the hub to this machine; everything after it is
offline.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from unnoise.base.errors import BadInput
from unnoise.base.text import clean
from unnoise.cli.common import console, emit


def fetch(
    name: Annotated[
        str,
        typer.Argument(
            metavar="OWNER/MODEL", help="A Stable Diffusion 1.x or 2.x model on the Hugging Face hub."
        ),
    ],
    revision: Annotated[
        str | None, typer.Option(help="A branch, tag or commit; else what is here, else main.")
    ] = None,
    variant: Annotated[str | None, typer.Option(help="fp16, … where a component has it; plain.")] = None,
    token_from_env: Annotated[
        bool, typer.Option("--token-from-env", help="Send the token in HF_TOKEN: for gated models.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say which files would come, write nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Fetch a model: safetensors only, verified, resumed where it stopped. Does nothing when it is here."""
    from unnoise.hub import fetch as hub

    token = _token() if token_from_env else None
    if dry_run:
        return _show(hub.plan(name, revision, variant, token), as_json)
    try:
        with _bar(name) as report:
            got = hub.fetch(name, revision, variant, token, report=report)
    except KeyboardInterrupt as e:
        raise type(e)(f"what has come is kept, the same command goes on (unnoise fetch {name})") from None
    d = _report(name, got)
    what = f"{d['received'] / 1e6:.1f} MB fetched" if got.received else "already here"
    about = f"{name} ({d['variant']}, commit {d['commit'][:12]}, {d['bytes'] / 1e6:.1f} MB)"
    emit(d, as_json, f"{about}: {what}\n{got.path}")


def _report(name: str, got: Any) -> dict[str, Any]:
    return {
        "name": name,
        "folder": str(got.path),
        "commit": got.manifest["commit"],
        "variant": got.manifest["variant"] or "plain",
        "files": list(got.manifest["files"]),
        "bytes": sum(f["size"] for f in got.manifest["files"].values()),
        "received": got.received,
    }


def _token() -> str:
    token = os.environ.get("HF_TOKEN", "").strip()
    if not token:
        raise BadInput("--token-from-env needs the environment variable HF_TOKEN, which is not set")
    return token


def _show(plan, as_json: bool) -> None:
    files = {f.name: f.size for f in plan.files}
    lines = [f"{size:>14,}  {name}" for name, size in files.items()]
    lines.append(f"{plan.size:>14,}  bytes in all, commit {plan.commit[:12]}")
    about = {"name": plan.name, "commit": plan.commit, "variant": plan.variant or "plain"}
    emit({**about, "files": files, "bytes": plan.size}, as_json, "\n".join(lines))


@contextmanager
def _bar(name: str) -> Iterator[Callable[[str, int, int], None] | None]:
    """Bytes, rate and time left on stderr, in terminals only; yields report(file, done, total)."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console(), transient=True) as bar:
        task = bar.add_task(clean(name), total=None)
        yield lambda file, done, total: bar.update(task, description=clean(file), completed=done, total=total)
