"""`unnoise tokens`: what a prompt becomes, as one JSON object and as lines."""

import json

import pytest
import typer
from typer.testing import CliRunner

from tests.support.vocabulary import published, trained
from unnoise.cli.tokens import tokens
from unnoise.errors import BadInput

app = typer.Typer()
app.command()(tokens)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return published(tmp_path_factory.mktemp("model") / "tokenizer", trained())


def shown(*args) -> str:
    result = CliRunner().invoke(app, [str(a) for a in args])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0
    return result.stdout


def test_json_has_each_token_with_id_and_weight(folder):
    tok = trained()
    for where in (("--tokenizer", folder), ("--model", folder.parent)):
        d = json.loads(shown("A (cat:1.3), dog", *where, "--json"))
        assert set(d) == {"tokens", "ids", "weights", "chunks", "count"}
        assert (
            d["tokens"] == ["a</w>", "cat</w>", ",</w>", "dog</w>"]
            and d["ids"] == tok.ids("a cat , dog")
            and d["weights"] == [1, 1.3, 1, 1]
        )
        assert d["chunks"] == [d["ids"]] and d["count"] == 4


def test_long_prompts_are_shown_whole(folder):
    d = json.loads(shown("cat " * 200, "--tokenizer", folder, "--json"))
    assert (
        [len(c) for c in d["chunks"]] == [75, 75, 50]
        and [i for c in d["chunks"] for i in c] == d["ids"]
        and d["count"] == 200
    )
    lines = shown("cat " * 200, "--tokenizer", folder)
    assert (
        lines.startswith("200 tokens in 3 chunks of 75")
        and lines.count("cat</w>") == 200
        and "chunk 3: 50 of 75" in lines
    )
    lines = shown("cat BREAK dog", "--tokenizer", folder).splitlines()
    assert [l.split()[-1] for l in lines[1:]] == ["75", "cat</w>", "75", "dog</w>"]
    assert "0 tokens in 1 chunk" in shown("", "--tokenizer", folder)


def test_blends_and_changes_by_step_are_all_shown(folder):
    d = json.loads(shown("a {cat:3|dog} [red:old:0.5]", "--tokenizer", folder, "--json", "--steps", 4))
    want = [
        ([0, 1], 0.75, "cat red"),
        ([0, 1], 0.25, "dog red"),
        ([2, 3], 0.75, "cat old"),
        ([2, 3], 0.25, "dog old"),
    ]
    assert [
        (v["steps"], v["share"], " ".join(v["tokens"][1:]).replace("</w>", "")) for v in d["variants"]
    ] == want
    assert d["tokens"] == d["variants"][0]["tokens"]
    lines = shown("(cat:1.25) [red|old]", "--tokenizer", folder, "--steps", 5)
    assert "steps 0, 2, 4, share 1" in lines and "steps 1, 3, share 1" in lines and "cat</w>  × 1.25" in lines
    assert "steps 0-3, share 0.5" in shown("{a|b}", "--tokenizer", folder, "--steps", 4)


def test_what_cannot_be_read_is_refused(folder, tmp_path, tiny):
    for args, said in (
        (("--model", tiny), "has no tokenizer"),
        (("--model", "digits"), "has no tokenizer"),
        ((), "give one of"),
        (("--model", "nothing"), "unknown model"),
        (("--tokenizer", folder, "--model", "digits"), "give one of"),
        (("--tokenizer", tmp_path), r"no JSON file at .*vocab\.json"),
        (("--tokenizer", folder, "--steps", 0), "at least 1"),
    ):
        with pytest.raises(BadInput, match=said):
            shown("cat", *args)
    with pytest.raises(BadInput, match="given -1"):
        shown("(cat:-1)", "--tokenizer", folder)
