"""A class of options is its fields, in their order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer
from typer.testing import CliRunner

from unnoise.cli.options import grouped

FOUND = []


@dataclass(frozen=True)
class Size:
    width: Annotated[int, typer.Option("--width")]
    height: Annotated[int, typer.Option("--height")] = 2


@grouped
def draw(
    name: Annotated[str, typer.Argument()],
    *,
    size: Size,
    quick: Annotated[bool, typer.Option("--quick")] = False,
) -> None:
    """Draw it."""
    FOUND.append((name, size, quick))


def test_fields_become_options_and_come_back_as_the_class():
    app = typer.Typer()
    app.command("draw")(draw)
    app.command("other")(lambda: None)
    run = lambda *words: CliRunner().invoke(app, ["draw", *words])
    assert run("a", "--width", "3").exit_code == 0
    assert run("a", "--width", "3", "--height", "4", "--quick").exit_code == 0
    assert [("a", Size(3, 2), False), ("a", Size(3, 4), True)] == FOUND
    assert run("a").exit_code == 2
    said = run("--help").output
    assert said.index("--width") < said.index("--height") < said.index("--quick") and "Draw it." in said
