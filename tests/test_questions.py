"""docs/questions.md: every question is there as it was asked, and what its answer names exists: files,
definitions, quotations, commands, options.
"""

import ast
import hashlib
import re
import shlex
from functools import cache
from pathlib import Path

import pytest
import typer

from unnoise.cli.main import app

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "questions.md").read_text(encoding="utf-8")
ASKED = {  # the parts: how many questions, and the start of the sha256 of them, one a line
    "Part 1: how to get started with stable diffusion.": (25, "55a94dcd910f6fb9"),
    "Part 2.": (26, "da7bf0a9c561032f"),
}
FENCED = re.compile(r"```python\n(.*?)```", re.DOTALL)
QUESTION = re.compile(r"^\*\*(\d+)\. (.+?)\*\*\n\n(.+?)(?=^\*\*\d+\. |\Z)", re.DOTALL | re.MULTILINE)
CITED = re.compile(
    r"`((?:src|lab|tests)/[\w./-]+\.py): ([\w.]+)`(?::\s`([^`]+)`)?"
)  # `path: name`, and perhaps : `what stands there`
PATH = re.compile(r"`((?:src|lab|recipes|tests|docs)/[\w./-]+)`")
PLANNED = re.compile(r"ot built\s+yet\s+here:\s+it\s+would\s+be\s+in\s+`([^`]+)`")
COMMAND = re.compile(r"`(unnoise [^`]+)`")
PROSE = FENCED.sub("", PAGE)


def plain(text: str) -> str:
    return " ".join(text.split())


def answers() -> list[tuple[str, int, str, str]]:
    """(part, number, question, answer) in the page's order."""
    parts = re.split(r"^## (.+)\n", PAGE, flags=re.MULTILINE)[1:]
    return [
        (part, int(k), plain(q), a)
        for part, text in zip(parts[::2], parts[1::2])
        for k, q, a in QUESTION.findall(text)
    ]


# --- what may be wrong: each answers with a complaint, or None ----------------------------------------------


@cache
def source(path: str) -> tuple[str, ast.Module]:
    text = (ROOT / path).read_text(encoding="utf-8")
    return text, ast.parse(text)


def defined(node: ast.AST, name: str) -> ast.AST | None:
    """The definition of a name in the body of a module or class: a function, a class or an assignment."""
    for child in getattr(node, "body", []):
        if isinstance(child, (ast.FunctionDef, ast.ClassDef)) and child.name == name:
            return child
        targets = (
            child.targets
            if isinstance(child, ast.Assign)
            else [child.target]
            if isinstance(child, ast.AnnAssign)
            else []
        )
        if any(isinstance(n, ast.Name) and n.id == name for t in targets for n in ast.walk(t)):
            return child
    return None


def wrong_citation(path: str, name: str, quoted: str) -> str | None:
    if not (ROOT / path).is_file():
        return f"there is no {path}"
    text, node = source(path)
    for part in name.split("."):
        node = defined(node, part)
        if node is None:
            return f"{path} defines no {name}"
    lines = text.splitlines()[node.lineno - 1 : node.end_lineno] if quoted else []
    return None if plain(quoted) in plain(" ".join(lines)) else f"{path}: {name} does not hold {quoted!r}"


root = cache(lambda: typer.main.get_command(app))


def wrong_command(line: str) -> str | None:
    """Parsed by the command line itself, which then is not run: unknown commands, options and values of the
    wrong kind are found.
    """
    command, (name, *rest) = root(), shlex.split(line)
    while commands := getattr(command, "commands", None):
        if not rest or rest[0] not in commands:
            return f"{name} has no command {rest[:1]}"
        command, (name, *rest) = commands[rest[0]], rest
    try:
        context = command.make_context(name, list(rest))
    except Exception as e:
        return str(getattr(e, "message", e)) or type(e).__name__
    for word in rest:
        if word.startswith("recipes/") and not (ROOT / word).is_file():
            return f"there is no {word}"
    return wrong_experiment(context.params["name"], context.args) if context.args else None


def wrong_experiment(name: str, options: list[str]) -> str | None:
    script = ROOT / "lab" / name / "run.py"
    if not script.is_file():
        return f"there is no {script}"
    unknown = [
        o for o in options if o.startswith("--") and f'"{o}"' not in script.read_text(encoding="utf-8")
    ]
    return f"{script} has no {unknown[0]}" if unknown else None


def wrong_import(node: ast.stmt) -> str | None:
    """Of a block of the page: a module of unnoise that is not there, or a name that it neither defines nor
    imports.
    """
    if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("unnoise"):
        base = ROOT / "src" / Path(*node.module.split("."))
        file = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
        if not file.is_file():
            return f"there is no module {node.module}"
        tree = source(str(file.relative_to(ROOT)))[1]
        known = {a.asname or a.name for n in tree.body if isinstance(n, ast.ImportFrom) for a in n.names}
        for a in node.names:
            if not (a.name in known or defined(tree, a.name) or (base / f"{a.name}.py").is_file()):
                return f"{node.module} has no {a.name}"
    return None


# --- the page -----------------------------------------------------------------------------------------------


def test_every_question_stands_there_as_it_was_asked():
    found = answers()
    assert list(dict.fromkeys(part for part, *_ in found)) == list(ASKED)
    for part, (count, digest) in ASKED.items():
        own = [(k, q) for p, k, q, _ in found if p == part]
        assert [k for k, _ in own] == list(range(1, count + 1))
        assert hashlib.sha256("\n".join(q for _, q in own).encode()).hexdigest().startswith(digest), part


@pytest.mark.parametrize(("part", "number", "question", "answer"), answers(), ids=lambda v: str(v)[:6])
def test_every_answer_says_something_and_shows_it(part, number, question, answer):
    said = re.split(r"^(?:Code|Command): |^```", answer, flags=re.MULTILINE)[0]
    assert len(re.findall(r"[.:?](?:\s|$)", said)) >= 2 and len(said) > 100
    assert CITED.search(answer) or COMMAND.search(answer)
    assert all(len(line) <= 162 for line in answer.splitlines())


def test_what_is_cited_is_there():
    found = CITED.findall(PROSE)
    assert len(found) > 51 and sum(1 for *_, quoted in found if quoted) > 20
    assert [w for c in found if (w := wrong_citation(*c))] == []


def test_files_and_links_are_there_and_what_is_not_built_is_not():
    planned = PLANNED.findall(PROSE)
    assert len(planned) == len(re.findall(r"ot built\s+yet", PROSE)) > 0
    assert [p for p in planned if (ROOT / p).exists()] == [], "built by now: say so in docs/questions.md"
    named = {p for p in PATH.findall(PROSE) if p not in planned} | {
        f"docs/{p}" for p in re.findall(r"\]\((\w+\.md)\)", PROSE)
    }
    assert named and [p for p in sorted(named) if not (ROOT / p).exists()] == []


def test_commands_and_their_options_are_known():
    found = COMMAND.findall(PROSE)
    assert len(found) > 20
    assert [f"{line}: {w}" for line in found if (w := wrong_command(line))] == []


def test_blocks_are_python_and_import_what_is_there():
    blocks = FENCED.findall(PAGE)
    assert len(blocks) == 2
    assert [w for b in blocks for node in ast.parse(b).body if (w := wrong_import(node))] == []


CFG = "src/unnoise/guide/cfg.py"


@pytest.mark.parametrize(
    ("check", "given", "said"),
    [
        (wrong_citation, ("src/unnoise/guide/cgf.py", "cfg", ""), "no src"),
        (wrong_citation, (CFG, "cfg_batchd", ""), "defines no"),
        (wrong_citation, (CFG, "cfg", "u - s * (c - u)"), "hold"),
        (wrong_citation, ("src/unnoise/pipeline/pipeline.py", "Pipeline.cfg", ""), "defines no"),
        (wrong_command, ("unnoise generat x",), "generat"),
        (wrong_command, ("unnoise generate x --stps 3",), "--stps"),
        (wrong_command, ("unnoise generate x --steps many",), "integer"),
        (wrong_command, ("unnoise data preview",), ""),
        (wrong_command, ("unnoise train recipes/none.toml --out runs/none",), "none.toml"),
        (wrong_command, ("unnoise lab run zero_shot --quik",), "--quik"),
        (wrong_import, (ast.parse("from unnoise.sample import lsat").body[0],), "lsat"),
        (wrong_import, (ast.parse("from unnoise.smaple import last").body[0],), "smaple"),
    ],
    ids=lambda v: getattr(v, "__name__", "")[:20],
)
def test_what_is_wrong_is_found(check, given, said):
    complaint = check(*given)
    assert complaint is not None and said in complaint
