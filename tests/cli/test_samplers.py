"""`unnoise samplers` as a user reads it."""

import json
import re

import pytest

from tests.cli.test_cli import run


def listed(capfd) -> dict:
    code, out, _ = run(capfd, "samplers", "--json")
    assert code == 0
    return json.loads(out)


@pytest.mark.parametrize("what", ["samplers", "spacings"])
def test_each_is_told_in_one_sentence(capfd, what):
    for row in listed(capfd)[what]:
        text = re.sub(r"et al\.|eq\.|alg\.|app\.|table \d|\d\.x", "", row["summary"])
        assert text.endswith(".") and not re.search(r"[.?!]\s+[A-Z]", text), row
        assert text.count("(") == text.count(")") and "\n" not in text


def test_every_line_of_the_list_has_its_columns(capfd):
    rows, lines = listed(capfd), run(capfd, "samplers")[1].splitlines()
    assert len(lines) == len(rows["samplers"]) + len(rows["spacings"]) + 2
    for row, line in zip(rows["samplers"], lines):
        kind = "stochastic" if row["stochastic"] else "deterministic"
        assert line.split()[:4] == [row["name"], "order", str(row["order"]), kind]
