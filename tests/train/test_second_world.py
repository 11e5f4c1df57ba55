"""Training on the second world: captions drawn anew at every visit, words taught alone, weights handed over,
and runs that end at a time.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.train.scenes import recipe, tokenizer
from tests.train.sources.test_latents import stopped_and_resumed
from tests.train.test_cli import unnoise, write
from unnoise.cli.train import seconds_of
from unnoise.errors import BadInput
from unnoise.hub import parts
from unnoise.text import known
from unnoise.train import checkpoint, fit, run
from unnoise.train.fit import prepare
from unnoise.train.recipe import Recipe, parse
from unnoise.train.sources import captions, latents
from unnoise.train.sources.world import token_ids
from unnoise.train.tasks import words

ROOT = Path(__file__).parents[2]
SECOND = {"world": 2, "concepts": 60}


def script(name: str):
    """A recipe's script as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "recipes" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def stages(tmp_path_factory) -> dict[str, str]:
    """An autoencoder and a CLIP, trained for a moment."""
    at = tmp_path_factory.mktemp("stages")
    clip = run.train(recipe("contrast", {"tokenizer": str(tokenizer(at / "words"))}, steps=2), at / "clip")
    return {
        "autoencoder": run.train(recipe("autoencode", steps=2), at / "autoencoder")["folder"],
        "text": clip["folder"],
    }


@pytest.fixture(autouse=True)
def cached(tmp_path, monkeypatch):
    monkeypatch.setattr(latents, "cache", lambda: tmp_path)
    monkeypatch.setattr(latents, "PART", 32)


def latent(stages: dict, n: int = 64, world: int = 2, **train) -> Recipe:
    return recipe("denoise", {**SECOND, **stages, "cached": n, "world": world}, **train)


def taught(stages: dict, hold: float = 1.0, data: dict | None = None, **train) -> Recipe:
    made = recipe(
        "denoise", {**SECOND, "text": stages["text"], **(data or {})}, {"hold": hold, "length": 12}, **train
    )
    return parse({**made.model_dump(), "task": "words", "net": {"kind": "reader"}})


# --- captions anew ------------------------------------------------------------------------------------------


def test_the_same_scene_is_said_otherwise_at_another_place(stages):
    src = prepare(latent(stages)).source
    assert isinstance(src, latents.LatentSource)
    index = np.array([3, 3, 3, 3, 9])
    items = [src.fetch(index, 0, place=np.arange(5) + start) for start in (0, 0, 640)]
    assert torch.equal(items[0].more["ids"], items[1].more["ids"]) and torch.equal(items[0].x, items[2].x)
    rows = {tuple(r.tolist()) for item in (items[0], items[2]) for r in item.more["ids"][:4]}
    assert len(rows) >= 4
    said = [src.pixels.world.again(0, int(i), int(p)) for i, p in zip(index, range(5))]
    assert torch.equal(items[0].more["ids"], token_ids(src.text.tokenizer, said))


def test_the_first_world_and_validation_keep_their_captions(stages):
    first, second = (prepare(latent(stages, world=w)).source for w in (1, 2))
    for src, place in ((first, np.arange(4)), (second, None)):
        assert isinstance(src, latents.LatentSource)
        ids = src.fetch(np.arange(4), 0, place=place).more["ids"].numpy()
        assert np.array_equal(ids, src.ids[:4])


def test_a_run_that_was_stopped_says_the_same(stages, tmp_path):
    r = latent(stages, n=16, steps=5, text=True, tokens=3.0)  # 16 scenes: seen three times
    done = run.train(r, tmp_path / "one")
    assert stopped_and_resumed(r, tmp_path / "two")["raw_sha256"] == done["raw_sha256"]


def test_captions_of_other_processes_are_the_same(stages, tmp_path, monkeypatch):
    done = {}
    for workers in (0, 2):
        monkeypatch.setattr(latents, "cache", lambda at=tmp_path / str(workers): at)
        made = prepare(latent(stages, n=16, steps=4, workers=workers, accumulate=2, text=True))
        list(fit.fit(made))
        done[workers] = checkpoint.weights_hash(made.net.state_dict())
        if made.ahead:
            made.ahead.close()
    assert done[0] == done[2]


def test_worlds_have_caches_of_their_own(stages, tmp_path):
    for world in (1, 2):
        prepare(latent(stages, world=world))
    assert len(list((tmp_path / "latents").iterdir())) == 2
    old = recipe("denoise", {**stages, "cached": 64, "concepts": 60})
    prepare(old)
    assert len(list((tmp_path / "latents").iterdir())) == 2  # a recipe that names no world has the first's


def test_a_model_says_which_words_it_was_taught(stages, tmp_path):
    folder = run.train(latent(stages, steps=2), tmp_path / "one")["folder"]
    told = known.load(folder)
    assert told is not None and told.unknown("a red apple on a blue background") == []
    assert [w for w, _ in told.unknown("a quokka and a chipmunk")] == ["quokka", "chipmunk"]


# --- words --------------------------------------------------------------------------------------------------


def test_an_encoder_learns_what_captions_mean(stages, tmp_path):
    r = taught(stages, steps=40, batch=32, lr=3e-3)
    before = run.Validation(made := prepare(r))(made)
    done = run.train(r, tmp_path / "one")
    after = done["validation"]
    assert after["loss"] < before["loss"] - 1 and 0 <= after["noun"] <= after["noun_top5"] <= 1
    kept = parts.load_text(done["folder"])
    assert (
        kept.net.config == parts.load_text(stages["text"]).net.config
        and kept.tokenizer.vocab == parts.load_text(stages["text"]).tokenizer.vocab
    )
    assert not torch.equal(
        kept.net.state_dict()[TOKENS], parts.load_text(stages["text"]).net.state_dict()[TOKENS]
    )


TOKENS = "text_model.embeddings.token_embedding.weight"


def test_words_of_other_processes_are_the_same(stages):
    done = {}
    for workers in (0, 2):
        made = prepare(taught(stages, steps=3, workers=workers))
        list(fit.fit(made))
        done[workers] = checkpoint.weights_hash(made.net.state_dict())
        if made.ahead:
            made.ahead.close()
    assert done[0] == done[2]


def test_words_go_on_from_an_encoder_that_was_taught(stages, tmp_path):
    done = run.train(taught(stages, steps=3), tmp_path / "one")["folder"]
    more = prepare(taught(stages, start=done)).net
    assert isinstance(more, words.Understanding)
    now, first = (n.state_dict()[TOKENS] for n in (more.text, more.first[0]))
    assert torch.equal(now, parts.load_text(done).net.state_dict()[TOKENS]) and torch.equal(
        first, parts.load_text(stages["text"]).net.state_dict()[TOKENS]
    )
    with pytest.raises(BadInput, match="another text encoder"):
        prepare(taught(stages, start="emoji"))


def test_words_are_resumed_exactly(stages, tmp_path):
    r = taught(stages, steps=4, tokens=4.0)
    assert (
        stopped_and_resumed(r, tmp_path / "two")["raw_sha256"] == run.train(r, tmp_path / "one")["raw_sha256"]
    )


def test_held_states_stay_nearer(stages):
    far = {}
    for hold in (0.0, 20.0):
        made = prepare(taught(stages, hold, steps=15, batch=32, lr=3e-3))
        list(fit.fit(made))
        items = made.source.fetch(np.arange(64), 0)
        assert isinstance(made.net, words.Understanding)
        _, h, h0 = made.net(items.x, items.more["plain"])
        far[hold] = words.apart(h, h0, items.x, items.more["plain"], made.net.eos).mean().item()
    assert far[20.0] < 0.8 * far[0.0]


def test_apart_and_pooled_by_hand():
    eos, ids = 9, torch.tensor([[8, 1, 2, 9, 9, 9], [8, 1, 9, 9, 9, 9]])
    h = torch.zeros(2, 6, 1)
    h[:, 1], h[:, 2], h[:, 3:] = 4.0, 2.0, 5.0
    assert words.pooled(h, ids, eos).tolist() == [[3.0, 5.0], [4.0, 4.25]]
    same = words.apart(h, h, ids, ids, eos)
    assert same.tolist() == [0, 0]
    g = h.clone()
    g[:, 4] += 1
    assert words.apart(g, h, ids, ids, eos).tolist() == pytest.approx([1 / 75, 1 / 79])
    longer = words.apart(
        h[:1], h[1:], ids[:1], ids[1:], eos
    )  # "1 2" against "1": the mean of words, and what follows both
    assert longer.tolist() == pytest.approx([(3 - 4) ** 2 / 16])


def test_most_captions_are_bare_names_that_say_what_is_asked(stages):
    src = prepare(taught(stages)).source
    assert isinstance(src, captions.CaptionSource)
    bare, full = src.fetch(np.arange(64), 0), src.fetch(3 * captions.BLOCK + np.arange(64), 0)
    assert (
        bare.x.shape == (64, captions.SHORT)
        and full.x.shape == (64, 12)
        and (bare.more["head/noun"] >= 0).all()
    )
    assert (bare.x[:, -1] == src.encoder.tokenizer.eos).all() and (full.more["head/fingers"] >= 0).any()


@pytest.mark.parametrize("data, told", [({"world": 1}, "world = 2"), ({"text": ""}, r"data\.text")])
def test_what_words_need_is_told(stages, data, told):
    with pytest.raises(BadInput, match=told):
        prepare(taught(stages, data=data))


def test_token_rows_have_a_rate_of_their_own_and_do_not_decay(stages):
    moved = {}
    for tokens in (1.0, 0.01):
        made = prepare(latent(stages, steps=1, text=True, tokens=tokens, lr=1e-2, warmup=0, weight_decay=0.1))
        before = {k: v.clone() for k, v in made.net.state_dict().items()}
        list(fit.fit(made))
        moved[tokens] = (made.net.state_dict()[f"text.{TOKENS}"] - before[f"text.{TOKENS}"]).abs()
        assert (made.net.state_dict()["net.conv_in.weight"] - before["net.conv_in.weight"]).abs().max() > 5e-3
    assert moved[0.01].max() < 0.02 * moved[1.0].max()
    assert (moved[0.01] == 0).any()  # rows of words that no caption had
    with pytest.raises(BadInput, match="token rows"):
        prepare(latent(stages, tokens=2.0))


# --- handover -----------------------------------------------------------------------------------------------


def test_a_start_brings_its_text_encoder_along(stages, tmp_path):
    one = run.train(latent(stages, steps=3, text=True), tmp_path / "one")["folder"]
    theirs = parts.load_text(one).net.state_dict()[TOKENS]
    assert not torch.equal(theirs, parts.load_text(stages["text"]).net.state_dict()[TOKENS])
    more = prepare(latent(stages, start=one, text=True)).net.state_dict()
    assert torch.equal(more[f"text.{TOKENS}"], theirs)
    frozen = prepare(latent(stages, start=one)).source
    assert isinstance(frozen, latents.LatentSource) and not torch.equal(
        frozen.text.net.state_dict()[TOKENS], theirs
    )


def test_a_run_is_handed_over_while_it_goes_on(stages, tmp_path, capsys):
    handover = script("handover")
    made = run.train(latent(stages, steps=4, text=True), tmp_path / "one")
    for which in ("ema0", "ema1", "raw"):
        assert (
            handover.main(
                ["--run", str(tmp_path / "one"), "--weights", which, "--out", str(tmp_path / which)]
            )
            == 0
        )
    found = checkpoint.newest(tmp_path / "one" / "checkpoints")
    assert found is not None
    for which in ("ema0", "raw"):
        assert torch.equal(
            parts.load_text(tmp_path / which).net.state_dict()[TOKENS], found[0][which][f"text.{TOKENS}"]
        )
    assert known.load(tmp_path / "raw") == known.load(made["folder"])
    assert handover.main(["--run", str(tmp_path / "one"), "--half", "--out", str(tmp_path / "half")]) == 0
    sizes = [(tmp_path / f / "text_encoder" / "model.safetensors").stat().st_size for f in ("half", "ema0")]
    assert sizes[0] < 0.6 * sizes[1]
    assert "step 4 (32 samples)" in capsys.readouterr().err
    prepare(latent(stages, start=str(tmp_path / "half"), text=True))


def test_a_model_takes_another_encoder(stages, tmp_path):
    handover = script("handover")
    model = run.train(latent(stages, steps=2), tmp_path / "one")["folder"]
    text = run.train(taught(stages, steps=2), tmp_path / "words")["folder"]
    assert handover.main(["--model", model, "--text", text, "--out", str(tmp_path / "both")]) == 0
    kept = parts.load_text(tmp_path / "both").net.state_dict()
    assert torch.equal(kept[TOKENS], parts.load_text(text).net.state_dict()[TOKENS])
    prepare(latent(stages, start=str(tmp_path / "both"), text=True))


def test_a_handover_that_cannot_be_is_one_line_and_loses_nothing(stages, tmp_path, capsys, monkeypatch):
    handover = script("handover")
    run.train(latent(stages, steps=2), tmp_path / "one")
    recipe_file, out = tmp_path / "one" / "recipe.json", tmp_path / "out"

    def refused(*args: object) -> str:
        assert handover.main([*map(str, args), "--out", str(out)]) == 2
        told = capsys.readouterr().err
        errors = [line for line in told.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1 and "Traceback" not in told and not out.exists()
        return errors[0]

    assert "no training run" in refused("--run", tmp_path)
    assert "--run, or --model" in refused("--model", "emoji")
    kept = recipe_file.read_text()
    other = json.loads(kept)
    other["net"]["block_out_channels"] = [8, 24]
    recipe_file.write_text(json.dumps(other))
    assert "has shape" in refused("--run", tmp_path / "one")
    other = json.loads(kept)
    other["data"]["name"] = "emoji-128-scenes"
    recipe_file.write_text(json.dumps(other))
    assert "unnoise data fetch emoji-128" in refused("--run", tmp_path / "one")
    recipe_file.write_text(kept)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as m:
        m.setattr("unnoise.hub.saving.save_file", full)
        assert "No space left" in refused("--run", tmp_path / "one")
    assert handover.main(["--run", str(tmp_path / "one"), "--out", str(out)]) == 0


# --- for so long --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, seconds", [("90s", 90), ("20m", 1200), ("2h", 7200), ("1.5d", 129600), (" 5m ", 300)]
)
def test_times(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "0",
        "0s",
        "0.0h",
        "h",
        "",
        "two hours",
        "2",
        "-2h",
        "2 h",
        "inf h",
        "infh",
        "nanh",
        "1e9h",
        "2hh",
        "２h",
        "9" * 400 + "d",
    ],
)
def test_what_is_no_time_is_told(text):
    with pytest.raises(BadInput, match="--for must be a time above 0") as e:
        seconds_of(text)
    assert "\n" not in str(e.value) and len(str(e.value)) < 150


def test_a_run_ends_at_its_time_and_goes_on(tmp_path):
    r = recipe("autoencode", steps=6, batch=4)
    whole = run.train(r, tmp_path / "whole")
    first = run.train(r, tmp_path / "cut", seconds=1e-3)
    assert first["steps"] == 1 and Path(first["folder"]).is_dir() and first["validation"]
    assert checkpoint.newest(tmp_path / "cut" / "checkpoints") is not None
    again = run.train(r, tmp_path / "cut", resume=True, seconds=3600)
    assert again["steps"] == 6 and again["raw_sha256"] == whole["raw_sha256"]
    steps = [json.loads(line) for line in (tmp_path / "cut" / "log.jsonl").read_text().splitlines()]
    assert [e["step"] for e in steps if e["event"] == "train"] == [1, 2, 3, 4, 5, 6]


def test_on_the_command_line(tmp_path):
    path = write(tmp_path, train={"steps": 10**7, "batch": 8, "warmup": 2, "lr": 1e-3})
    rc, out, err = unnoise(path, "--out", tmp_path / "run", "--for", "0.2s", "--json")
    told = json.loads(out)
    assert (
        rc == 0
        and 0 < told["steps"] < 10**7
        and "--resume goes on" in err
        and "the time is up after step" in err
    )
    for wrong in ("0", "soon"):
        rc, out, err = unnoise(path, "--out", tmp_path / "other", "--for", wrong)
        assert (
            rc == 2
            and err.startswith("error: --for")
            and err.count("\n") == 1
            and not (tmp_path / "other").exists()
        )
