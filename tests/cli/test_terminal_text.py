"""Nothing that others wrote acts on the terminal: names of files and models, recipes, keys, and what
libraries print about them.
"""

import json
import os
import subprocess
import sys

import pytest

from tests.support import forked
from unnoise.cli import common, terminal
from unnoise.cli.main import main, verdict

HOSTILE = (  # sets a title, C1, DEL, the direction turned, Rich markup
    "a\x1b]0;owned\x07b\x9bc\x7f\u202ed[/b][bold]"
)
NAME = HOSTILE.replace("/", "")
FORBIDDEN = {*range(0x20), 0x7F} - {0x0A}


def process(*args, cwd, env=None, **more):
    """(exit code, stdout, stderr) in bytes of a command as a process of its own."""
    r = subprocess.run(
        [sys.executable, "-m", "unnoise", *args],
        cwd=cwd,
        capture_output=True,
        env={**os.environ, **(env or {})},
        **more,
    )
    return r.returncode, r.stdout, r.stderr


def harmless(raw: bytes) -> bool:
    text = raw.decode()
    return not FORBIDDEN & set(raw) and not any(
        "\x80" <= c <= "\x9f" or c in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069" for c in text
    )


@pytest.fixture
def folder(tmp_path):
    """A place with hostile things in it: a model folder, a recipe, a data set, a picture, each with such a
    name, key or text.
    """
    model = tmp_path / NAME
    model.mkdir()
    (model / "model_index.json").write_text(
        json.dumps({"_class_name": HOSTILE, HOSTILE: [HOSTILE, HOSTILE], "unet": ["diffusers", "X"]})
    )
    (tmp_path / "recipe.toml").write_text(
        f"name = {json.dumps(HOSTILE)}\n{json.dumps(HOSTILE)} = 1\n[data]\nname='x'\n", encoding="utf-8"
    )
    (tmp_path / "picture.png").write_text(HOSTILE)
    return tmp_path


COMMANDS = [
    ["generate", HOSTILE, "--model", "digits", "--steps", "1", "--seed", "1", "-n", "1", "-o", f"{NAME}.png"],
    ["generate", "x", "--model", HOSTILE],
    ["generate", "a car", "--sampler", HOSTILE],
    ["generate", "x", f"--{HOSTILE}"],
    [HOSTILE],
    ["info", NAME],
    ["models", NAME],
    ["train", "recipe.toml", "--out", "run"],
    ["train", HOSTILE, "--out", "r"],
    ["replay", "picture.png"],
    ["replay", HOSTILE],
    ["data", "info", HOSTILE],
    ["data", "fetch", HOSTILE],
    ["tokens", HOSTILE, "--model", "emoji"],
    ["fetch", HOSTILE],
    ["edit", "image-to-image", HOSTILE, HOSTILE],
    ["edit", HOSTILE],
    ["evaluate", HOSTILE],
    ["lab", "run", HOSTILE],
]


@pytest.mark.parametrize(
    "args", COMMANDS, ids=lambda a: " ".join(w if w.isascii() and w.isprintable() else "X" for w in a)[:40]
)
def test_no_control_character_reaches_the_terminal(folder, args):
    code, out, err = forked.command(*args, cwd=folder)
    assert harmless(out) and harmless(err), (out, err)
    assert code == 2 and err.startswith(b"error: ") and err.count(b"\n") == 1 if code else not err, (
        code,
        out,
        err,
    )


def test_json_is_exact_and_printable(capsys):
    common.emit({HOSTILE: [HOSTILE, float("nan"), 1.5], "é": float("inf")}, True)
    out = capsys.readouterr().out
    assert (
        harmless(out.encode())
        and out.isascii()
        and json.loads(out) == {HOSTILE: [HOSTILE, None, 1.5], "é": None}
    )


def test_every_way_to_print_is_clean(capsys):
    common.say(f"{HOSTILE}\nsecond\tline")
    common.note(HOSTILE)
    common.warn(f"{HOSTILE}\nsecond line")
    common.emit({"name": f"{HOSTILE}\nsecond line"}, False)
    out, err = capsys.readouterr()
    assert harmless(out.encode()) and harmless(err.encode())
    assert out.count("\n") == 3 and err.count("\n") == 2 and "warning: " in err and "\\x1b]0;owned" in out


GUARDED = """
import sys, warnings, logging
from unnoise.cli import terminal
terminal.guard()
bad = {hostile!r}
print(bad); print(bad, file=sys.stderr); warnings.warn(bad); logging.getLogger("x").warning(bad)
import typer; typer.echo(bad); typer.echo(bad, err=True)
raise ValueError(bad)
"""


def test_libraries_that_print_warn_log_or_raise_are_cleaned_too():
    r = subprocess.run([sys.executable, "-c", GUARDED.format(hostile=HOSTILE)], capture_output=True)
    assert r.returncode == 1 and r.stdout.count(b"owned") == 2 and r.stderr.count(b"owned") >= 4
    assert harmless(r.stdout) and harmless(r.stderr)


def test_a_bar_shows_a_hostile_label_as_text(monkeypatch):
    import io

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "400")
    with common.progress(HOSTILE, 10) as advance:
        advance(3, note=HOSTILE)
    shown = stream.getvalue()
    assert (
        "\x1b]0;" not in shown
        and not {"\x07", "\x9b", "\x7f", "\u202e"} & set(shown)
        and "[/b][bold]" in shown
    )


def test_the_bar_tells_the_time_left_only_where_the_total_is_known():
    import time

    from rich.progress import Progress

    bar = common.bar_of("call")
    assert isinstance(bar, Progress)
    known, open_ = bar.add_task("a", total=10, note=""), bar.add_task("b", total=None, note="")
    bar.start_task(known)
    for task in (known, open_):
        for _ in range(3):
            time.sleep(0.01)
            bar.update(task, advance=1)
    left = bar.columns[-1]
    assert str(left.render(bar.tasks[0])).endswith(" left") and str(left.render(bar.tasks[1])) == ""
    bar.update(known, advance=7)
    assert str(left.render(bar.tasks[0])) == "0:00 left"


def test_our_own_sequences_pass_the_guard(capsys):
    import io

    below = io.StringIO()
    stream = terminal.Printable(below, "stderr")
    print("\x1b[31mred", file=stream)
    terminal.below(stream).write("\x1b[0m")
    assert below.getvalue() == "\\x1b[31mred\n\x1b[0m"


def test_the_verdict_on_a_hostile_error_is_one_clean_line(capsys):
    with pytest.raises(SystemExit) as e:
        main([HOSTILE])
    assert e.value.code == 2
    err = capsys.readouterr().err
    assert harmless(err.encode()) and err.count("\n") == 1
    assert verdict(ValueError(HOSTILE))[0] == 1


def test_only_the_printer_prints():
    """Each further `print`, `echo` or console is a door for other people's text."""
    from pathlib import Path

    import unnoise

    allowed = {"cli/common.py", "cli/terminal.py", "cli/main.py"}
    root = Path(unnoise.__file__).parent
    for path in sorted(root.rglob("*.py")):
        name = str(path.relative_to(root))
        text = path.read_text(encoding="utf-8")
        if name in allowed:
            continue
        assert "typer.echo(" not in text and "Console(" not in text, name
        if name.startswith("cli/"):
            assert " print(" not in text, name
