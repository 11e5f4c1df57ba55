"""`unnoise lab`: research questions, each answered by an experiment that runs by one command."""

from __future__ import annotations

import ast
import subprocess
import sys
from typing import Annotated

import typer

from unnoise import shipped
from unnoise.base.errors import BadInput, unknown
from unnoise.cli.common import emit

LAB = shipped.folder("lab")
app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None)


def experiments() -> dict[str, str]:
    """{name: the question, the first line of its run.py}. BadInput where the package came without them."""
    found = sorted(LAB.glob("*/run.py"))
    if not found:
        raise BadInput(
            f"the lab is not part of this installation ({LAB} is missing): clone the repository and install"
            " with pip install -e ."
        )
    return {
        p.parent.name: (ast.get_docstring(ast.parse(p.read_text(encoding="utf-8"))) or "").split("\n")[0]
        for p in found
    }


@app.command("list")
def show(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """The questions."""
    found = experiments()
    width = max(map(len, found)) + 2
    emit(
        {"experiments": [{"name": k, "question": v} for k, v in found.items()]},
        as_json,
        "\n".join(f"{k:{width}}{v}" for k, v in found.items()),
    )


@app.command("run", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def run(
    context: typer.Context, name: Annotated[str, typer.Argument(help="One of `unnoise lab list`.")]
) -> None:
    """Run an experiment; what follows the name is given on to it (--quick: does it run? --json; --help lists
    its own options).
    """
    found = experiments()
    if name not in found:
        raise unknown("experiment", name, found)
    code = subprocess.run([sys.executable, str(LAB / name / "run.py"), *context.args], check=False).returncode
    if code:
        raise typer.Exit(code if code > 0 else 128 - code)  # of a signal: as a shell counts
