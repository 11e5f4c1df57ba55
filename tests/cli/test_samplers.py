"""`unnoise samplers` as a user reads it."""

import json
import re

import pytest

from tests.cli.test_cli import run


@pytest.fixture(scope="module")
def listed():
    code, out, _ = run("samplers", "--json")
    assert code == 0
    return json.loads(out)


@pytest.mark.parametrize("what", ["samplers", "spacings"])
def test_each_is_told_in_one_sentence(listed, what):
    for row in listed[what]:
        text = re.sub(r"et al\.|eq\.|alg\.|app\.|table \d|\d\.x", "", row["summary"])
        assert text.endswith(".") and not re.search(r"[.?!;]\s+[A-Z]", text), row
        assert text.count("(") == text.count(")") and "\n" not in text


def test_every_line_of_the_list_has_its_columns(listed):
    lines = run("samplers")[1].splitlines()
    assert len(lines) == len(listed["samplers"]) + len(listed["spacings"]) + 2
    for row, line in zip(listed["samplers"], lines):
        kind = "stochastic" if row["stochastic"] else "deterministic"
        assert line.split()[:4] == [row["name"], "order", str(row["order"]), kind]
