"""What lies there already: a fetch that runs, and sheets of the same name."""

import os
import subprocess
import sys

import pytest
from PIL import Image
from typer.testing import CliRunner

from unnoise.base.lock import alone
from unnoise.cli.data import app
from unnoise.data import fetch
from unnoise.errors import BadInput

from .conftest import tarball, tiny_files


def preview(*args):
    return CliRunner().invoke(app, ["preview", "digits8", "-n", "4", *map(str, args)])


def test_one_fetch_at_a_time_in_a_folder(tiny, clients):
    clients.npm(tarball(tiny_files()))
    with (
        alone(tiny, "fetching tiny"),
        pytest.raises(BadInput, match=f"is in use: fetching tiny by process {os.getpid()}"),
    ):
        fetch("tiny")
    assert clients.calls() == [] and len(fetch("tiny")) == 4 and not (tiny / ".lock").exists()


def test_the_lock_of_a_fetch_is_held_while_its_client_works_and_ends_with_it(tiny, clients):
    """The client itself tries to take the lock, as another fetch would."""
    seen = tiny.parent / "seen"
    body = (
        f"import fcntl\nf = open({str(tiny / '.lock')!r}, 'r+')\ntry: fcntl.flock(f, fcntl.LOCK_EX |"
        f" fcntl.LOCK_NB)\nexcept OSError: open({str(seen)!r}, 'w').write(f.read())\nopen('t.tgz',"
        " 'wb').write(payload)"
    )
    clients.npm(tarball(tiny_files()), body)
    fetch("tiny")
    assert seen.read_text().startswith(f"fetching tiny by process {os.getpid()} on ")
    with alone(tiny, "looking"):
        pass


def test_the_lock_of_a_killed_fetch_is_none(tiny, clients):
    clients.npm(tarball(tiny_files()))
    code = (
        f"import os, signal\nfrom unnoise.base.lock import alone\nwith alone({str(tiny)!r}, 'x'):"
        " os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == -9 and (tiny / ".lock").exists()
    assert len(fetch("tiny")) == 4


@pytest.mark.parametrize(
    "name, second, third",
    [("sheet.png", "sheet-2.png", "sheet-3.png"), ("a.b.webp", "a.b-2.webp", "a.b-3.webp")],
)
def test_a_sheet_takes_a_number_where_its_name_is_taken(tmp_path, name, second, third):
    out = tmp_path / name
    out.write_bytes(b"mine")
    for made in (second, third):
        done = preview("-o", out)
        assert done.exit_code == 0 and done.stdout.strip() == str(tmp_path / made)
        assert (
            f"{out} is there already: written to {tmp_path / made}" in done.stderr
            and "--overwrite" in done.stderr
        )
        with Image.open(tmp_path / made) as image:
            assert image.size == (118, 118)
    assert out.read_bytes() == b"mine" and sorted(p.name for p in tmp_path.iterdir()) == sorted(
        [name, second, third]
    )


def test_overwrite_replaces_that_file_alone(tmp_path):
    out = tmp_path / "sheet.png"
    out.write_bytes(b"mine")
    done = preview("-o", out, "--overwrite")
    assert done.exit_code == 0 and done.stdout.strip() == str(out) and "already" not in done.stderr
    with Image.open(out) as image:
        assert image.size == (118, 118)
    assert [p.name for p in tmp_path.iterdir()] == ["sheet.png"]
