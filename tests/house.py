"""What the house is measured by: who imports whom, and how long, wide and branched its functions are.

    python -m tests.house [src/unnoise]

prints one JSON object: functions over 30 lines (as `ruff format` sets them in 100 columns), functions of a
complexity over 10 (McCabe's), lines over 120 columns, arrows that go up the list of rooms, and circles of
rooms. `arrows` is what `tests/test_house.py` holds.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

SOURCE = Path(__file__).parents[1] / "src" / "unnoise"


class Arrow(NamedTuple):
    """Module `by` imports `of`; lazy: inside a function."""

    by: str
    of: str
    lazy: bool


def modules(source: Path = SOURCE) -> dict[str, Path]:
    """Every module of the package by its dotted name below it ("" is the package itself)."""
    found = {}
    for path in sorted(source.rglob("*.py")):
        parts = path.relative_to(source).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def arrows(source: Path = SOURCE) -> list[Arrow]:
    """Every import of one module of the package by another, lazy ones and those for types alone included."""
    known = modules(source)
    return [Arrow(name, of, lazy) for name, path in known.items() for of, lazy in _imports(name, path, known)]


def _imports(name: str, path: Path, known: dict[str, Path]) -> Iterator[tuple[str, bool]]:
    for node, lazy in _nodes(ast.parse(path.read_text()), False):
        for full in _named(node, name, path):
            of = full.removeprefix("unnoise").removeprefix(".")
            while of not in known:  # a name that is imported from a module
                of = of.rpartition(".")[0]
            yield of, lazy


def _nodes(node: ast.AST, lazy: bool) -> Iterator[tuple[ast.AST, bool]]:
    for child in ast.iter_child_nodes(node):
        yield child, lazy
        yield from _nodes(
            child, lazy or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        )


def _named(node: ast.AST, name: str, path: Path) -> list[str]:
    """The modules of this package, or names in them, that an import statement names."""
    if isinstance(node, ast.Import):
        names = [a.name for a in node.names]
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            own = (
                ["unnoise", *name.split(".")]
                if path.name == "__init__.py"
                else ["unnoise", *name.split(".")[:-1]]
            )
            base = ".".join([*own[: len(own) - node.level + 1], *([base] if base else [])])
        names = [f"{base}.{a.name}" for a in node.names]
    else:
        return []
    return [n for n in names if n.split(".")[0] == "unnoise"]


def room(module: str, rooms: tuple[str, ...]) -> str:
    """The room of the list that a module is in: the longest name that begins its own. KeyError: in none."""
    fits = [r for r in rooms if module == r or (r and module.startswith(f"{r}."))]
    if not fits:
        raise KeyError(f"{module} is in no room of the list")
    return max(fits, key=len)


def circles(source: Path = SOURCE) -> list[tuple[str, ...]]:
    """Groups of rooms (packages and single modules) that import one another."""
    import networkx as nx

    graph = nx.DiGraph()
    for a in arrows(source):
        by, of = (m.split(".")[0] for m in (a.by, a.of))
        if by != of and by and of:
            graph.add_edge(by, of)
    return [tuple(sorted(c)) for c in nx.strongly_connected_components(graph) if len(c) > 1]


# --- reading ------------------------------------------------------------------------------------------------


def long_functions(source: Path, limit: int = 30) -> int:
    """How many functions have more lines than that, set in 100 columns."""
    with tempfile.TemporaryDirectory() as folder:
        count = 0
        for name, path in modules(source).items():
            copy = Path(folder) / f"{name or 'package'}.py"
            copy.write_text(path.read_text())
        _ruff("format", "--quiet", "--isolated", "--line-length", "100", folder)
        for copy in Path(folder).glob("*.py"):
            for node in ast.walk(ast.parse(copy.read_text())):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    count += node.end_lineno - node.lineno + 1 > limit  # type: ignore[operator]
    return count


def complex_functions(source: Path, limit: int = 10) -> int:
    """How many functions are of a greater cyclomatic complexity than that."""
    config = f"lint.mccabe.max-complexity={limit}"
    told = _ruff(
        "check", "--isolated", "--select", "C901", "--config", config, "--output-format", "json", str(source)
    )
    return len(json.loads(told))


def _ruff(*words: str) -> str:
    return subprocess.run(
        [sys.executable, "-m", "ruff", *words], capture_output=True, text=True, check=False
    ).stdout


def measured(source: Path = SOURCE) -> dict[str, object]:
    """All figures of the house at `source`."""
    lines = [line for path in modules(source).values() for line in path.read_text().splitlines()]
    return {
        "lines": len(lines),
        "lines_over_120": sum(len(line) > 120 for line in lines),
        "functions_over_30_lines": long_functions(source),
        "complexity_over_10": complex_functions(source),
        "circles": circles(source),
    }


if __name__ == "__main__":
    print(json.dumps(measured(Path(sys.argv[1]) if len(sys.argv) > 1 else SOURCE), indent=1))
