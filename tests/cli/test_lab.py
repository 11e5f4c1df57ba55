"""`unnoise lab`: what it lists, what it runs, what it says of a wrong name and of a place without the
repository.
"""

import json

from tests.cli.test_cli import bad, run
from unnoise.cli import lab


def test_every_experiment_has_a_question_and_a_page(capfd):
    _, out, _ = run(capfd, "lab", "list", "--json")
    rows = json.loads(out)["experiments"]
    assert {"captions", "choices", "from_scratch", "zero_shot"} <= {r["name"] for r in rows}
    for r in rows:
        assert r["question"] and (lab.LAB / r["name"] / "README.md").is_file(), r


def test_run_hands_on_options_and_exit_code(capfd, tmp_path, monkeypatch):
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "run.py").write_text(
        '"""Why?"""\nimport sys\nprint(sys.argv[1:])\nsys.exit(2 if "--fail" in sys.argv else 0)\n'
    )
    monkeypatch.setattr(lab, "LAB", tmp_path)
    assert run(capfd, "lab", "run", "one", "--quick", "--steps", 3)[:2] == (
        0,
        "['--quick', '--steps', '3']\n",
    )
    assert run(capfd, "lab", "run", "one", "--fail")[0] == 2
    assert "Why?" in run(capfd, "lab", "list")[1]


def test_bad_names_and_a_missing_lab(capfd, tmp_path, monkeypatch):
    assert "captions" in bad(capfd, "lab", "run", "caption")
    monkeypatch.setattr(lab, "LAB", tmp_path)
    assert "clone" in bad(capfd, "lab", "list")
