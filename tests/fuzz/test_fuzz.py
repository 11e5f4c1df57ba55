"""Two hundred damaged or hostile inputs of each kind, always the same; `make fuzz N=20000` for more of them.

A fault names its case: `python -m tests.fuzz.nursery --one KIND/NUMBER` tells it in full.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz import case

ROOT = Path(__file__).parents[2]
KINDS = (
    "folders",
    "checkpoints",
    "tokenizers",
    "pictures",
    "recipes",
    "datasets",
    "runs",
    "toml",
    "prompts",
    "commands",
)
CASES = 200
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def nursery():
    """ask(request) -> answer of a process that has imported everything (see `nursery.serve`)."""
    command = [sys.executable, "-m", "tests.fuzz.nursery", "--serve"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as p:
        stdin, stdout = p.stdin, p.stdout
        assert stdin and stdout and stdout.readline() == "ready\n"

        def ask(**request):
            print(json.dumps(request), file=stdin, flush=True)
            return json.loads(stdout.readline())

        yield ask
        stdin.close()


@pytest.mark.parametrize("kind", KINDS)
def test_no_input_does_more_than_be_refused(nursery, kind):
    found = nursery(kind=kind, count=CASES, seed=0)
    counts = found["kinds"][kind]
    told = "\n".join(f"{f['case']}: {f['faults'][0]}" for f in found["faults"][:10])
    assert counts["cases"] == CASES
    assert not found["faults"], f"{len(found['faults'])} of {CASES}:\n{told}"
    # otherwise the damage is none at all, or so coarse that nothing behind the first look at a file is tried
    assert counts["exit 2"] >= CASES // 10 and counts["exit 0"] >= CASES // 20, counts


@pytest.mark.parametrize(
    ("kind", "number"), [("tokenizers", 2), ("toml", 1), ("datasets", 0), ("commands", 0)]
)
def test_a_process_of_its_own_does_as_the_cases_do(nursery, kind, number):
    d = nursery(kind=kind, number=number, seed=0)
    assert d["code"] in (0, 2) and not case.foreign(d["out"] + d["err"]), d
    if d["code"] == 2:
        assert d["out"] == "" and d["err"].startswith("error: ") and d["err"].count("\n") == 1, d


def test_all_kinds_are_tried():
    from tests.fuzz.kinds import KINDS as made

    assert tuple(made) == KINDS
