"""Scenes as training sees them: tinted, captions as ids, latents that are made once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from tests.train.scenes import recipe, tokenizer
from unnoise.errors import BadInput
from unnoise.pipeline import Pipeline
from unnoise.train import run
from unnoise.train.fit import fit, prepare
from unnoise.train.recipe import Recipe
from unnoise.train.sources import latents
from unnoise.train.sources.world import WorldSource, token_ids


@pytest.fixture(scope="module")
def stages(tmp_path_factory) -> dict[str, str]:
    """An autoencoder and a CLIP, trained for a moment."""
    at = tmp_path_factory.mktemp("stages")
    words = tokenizer(at / "words")
    clip = run.train(recipe("contrast", {"tokenizer": str(words)}, steps=2), at / "clip")
    return {
        "autoencoder": run.train(recipe("autoencode", steps=2), at / "autoencoder")["folder"],
        "text": clip["folder"],
    }


@pytest.fixture(autouse=True)
def cached(tmp_path, monkeypatch):
    monkeypatch.setattr(latents, "cache", lambda: tmp_path)
    monkeypatch.setattr(latents, "PART", 32)


def latent(stages: dict, n: int = 64, **train) -> Recipe:
    return recipe("denoise", {**stages, "cached": n}, **train)


def stopped_and_resumed(r: Recipe, folder: Path) -> dict:
    """What a run comes to that was stopped after its second step and went on."""
    two = prepare(r)
    for s in fit(two):
        if s.step == 2:
            break
    run.checkpoint.write(folder / "checkpoints", 2, two.parts(), two.state())
    (folder / "recipe.json").write_text(r.model_dump_json())
    return run.train(r, folder, resume=True)


# --- latents ------------------------------------------------------------------------------------------------


def test_a_judge_sees_half_of_its_pictures_tinted():
    """By one colour each, at most so far, the same for ever; held-out pictures as they are."""
    plain, tinted = (prepare(recipe("recognise", {"tint": t})).source for t in (0.0, 0.2))
    x, y = (s.fetch(range(64), seed=3).x for s in (plain, tinted))
    moved = (y - x).flatten(1).abs().amax(1) > 0
    assert 20 < int(moved.sum()) < 44 and (y - x).abs().max() <= 0.4 + 1e-6 and y.abs().max() <= 1
    whole = ((y > -1) & (y < 1)).flatten(2)  # nothing was cut off there
    shift = (y - x).flatten(2)
    assert all(
        torch.allclose(shift[i, c][whole[i, c]], shift[i, c][whole[i, c]][:1], atol=1e-6)
        for i in range(64)
        for c in range(3)
        if whole[i, c].any()
    )
    assert torch.equal(tinted.fetch(range(5, 9), seed=3).x, y[5:9])
    assert torch.equal(tinted.other("test").fetch(range(8)).x, plain.other("test").fetch(range(8)).x)
    with pytest.raises(BadInput, match="tint is for task"):
        prepare(recipe("autoencode", {"tint": 0.2}))


def test_cached_latents_are_the_autoencoders_and_made_once(stages, tmp_path, monkeypatch):
    src = prepare(latent(stages)).source
    assert isinstance(src, latents.LatentSource)
    x = src.pixels.fetch([5, 40], 0).x
    want = (src.codec.net.encode(x).mean - src.codec.shift) * src.codec.scale
    torch.testing.assert_close(src.fetch(np.array([5, 40])).x, want, atol=5e-3, rtol=1e-3)  # kept as float16
    assert (
        src.ids[5].tolist()
        == token_ids(src.text.tokenizer, [src.pixels.world.scenes.caption(0, 5)])[0].tolist()
    )
    files = sorted(tmp_path.glob("latents/*/*.npz"))
    assert len(files) == 2  # of 32 scenes each
    monkeypatch.setattr(WorldSource, "fetch", lambda *a, **k: pytest.fail("made again"))
    assert np.array_equal(latents.open_latents(latent(stages), "train").x, src.x)


def test_a_damaged_part_is_made_again_and_no_half_part_is_left(stages, tmp_path):
    src = prepare(latent(stages)).source
    file = sorted(tmp_path.glob("latents/*/*.npz"))[0]
    file.write_bytes(file.read_bytes()[:500])
    assert np.array_equal(latents.open_latents(latent(stages), "train").x, src.x)
    assert not list(tmp_path.glob("latents/*/.*"))


def test_the_empty_prompt_is_what_dropped_captions_read_as(stages):
    src = prepare(latent(stages)).source
    ids = torch.from_numpy(src.ids[:3].astype(np.int64))
    c = src.condition(ids, torch.tensor([False, True, False]))
    empty = src.text.encode([""])
    torch.testing.assert_close(c[1:2], empty)
    torch.testing.assert_close(c[0:1], src.text.encode([src.pixels.world.scenes.caption(0, 0)]))
    assert not torch.allclose(c[2:3], empty)


def test_a_latent_model_trains_resumes_saves_and_draws_from_text(stages, tmp_path):
    r = latent(stages, steps=4)
    done = run.train(r, tmp_path / "one")
    assert stopped_and_resumed(r, tmp_path / "two")["raw_sha256"] == done["raw_sha256"]
    from unnoise.pipeline import load

    pipe = load(done["folder"])
    assert isinstance(pipe, Pipeline) and pipe(
        "a red apple", seed=1, num_inference_steps=2, num_images=2
    ).arrays.shape == (2, 32, 32, 3)
    assert (tmp_path / "one" / "samples" / "final.png").is_file()


def test_training_begins_with_the_weights_of_a_model(stages, tmp_path):
    done = run.train(latent(stages, steps=2), tmp_path / "one")
    more = prepare(latent(stages, start=done["folder"]))
    saved = run.checkpoint.newest(tmp_path / "one" / "checkpoints")
    assert saved is not None and run.checkpoint.weights_hash(
        more.net.state_dict()
    ) == run.checkpoint.weights_hash(saved[0]["ema0"])
    with pytest.raises(BadInput, match="another network"):
        prepare(latent(stages, start="digits"))


@pytest.mark.parametrize("task, part", [("autoencode", "autoencoder"), ("contrast", "text")])
def test_an_autoencoder_and_a_clip_go_on_too(stages, task, part):
    """From folders that hold no network that draws."""
    words = {"tokenizer": str(Path(stages["text"]) / "tokenizer")} if part == "text" else {}
    fresh, more = (
        prepare(recipe(task, words, **begin)).net.state_dict() for begin in ({}, {"start": stages[part]})
    )
    kept = safetensors.torch.load_file(
        next(
            Path(stages[part]).glob(
                "vae/*.safetensors" if part == "autoencoder" else "text_encoder/*.safetensors"
            )
        )
    )
    whole = {"autoencoder": "autoencoder", "text": "clip"}[part]
    assert kept and all(torch.equal(more[f"{whole}.{k}"], v.float()) for k, v in kept.items())
    assert not all(torch.allclose(fresh[f"{whole}.{k}"], v.float(), atol=1e-3) for k, v in kept.items())


@pytest.mark.parametrize(
    "change, told",
    [
        ({"text": ""}, "need data.text"),
        ({"cached": 0}, "need data.text"),
        ({"autoencoder": "nowhere/at/all"}, "model"),
    ],
)
def test_what_latents_need_is_told(stages, change, told):
    with pytest.raises(BadInput, match=told):
        prepare(recipe("denoise", {**stages, "cached": 64, **change}))


# --- faster, and the text encoder along ---------------------------------------------------------------------


def test_latents_and_noise_of_other_processes_are_the_same(stages, tmp_path, monkeypatch):
    done = {}
    for workers in (0, 2):
        monkeypatch.setattr(latents, "cache", lambda at=tmp_path / str(workers): at)
        r = prepare(latent(stages, steps=3, workers=workers, accumulate=2))
        list(fit(r))
        assert isinstance(r.source, latents.LatentSource) and (r.ahead is not None) == bool(workers)
        done[workers] = (
            r.source.x.tobytes(),
            r.source.ids.tobytes(),
            run.checkpoint.weights_hash(r.net.state_dict()),
        )
        if r.ahead:
            r.ahead.close()
    assert done[0] == done[2]


def test_a_text_encoder_that_learns_is_saved_with_the_model(stages, tmp_path):
    from unnoise.hub import parts

    r = latent(stages, steps=4, text=True)
    done = run.train(r, tmp_path / "one")
    before, after, tokens = (
        parts.load_text(stages["text"]),
        parts.load_text(done["folder"]),
        torch.tensor([[1, 5, 9]]),
    )
    assert not torch.allclose(before.net(tokens).hidden, after.net(tokens).hidden, atol=1e-4)
    saved = run.checkpoint.newest(tmp_path / "one" / "checkpoints")
    assert saved is not None
    for k, v in after.net.state_dict().items():
        assert torch.equal(v, saved[0]["ema0"][f"text.{k}"]), k
    assert stopped_and_resumed(r, tmp_path / "two")["raw_sha256"] == done["raw_sha256"]
    from unnoise.pipeline import load

    assert load(done["folder"])("a red apple", seed=1, num_inference_steps=2).arrays.shape == (1, 32, 32, 3)


def test_it_begins_as_the_frozen_one(stages):
    """The same loss at the first step, and the encoder it was made of is left as it was."""
    losses = []
    for text in (False, True):
        r = prepare(latent(stages, steps=2, text=text))
        # pyright: ignore[reportAttributeAccessIssue]
        weights = {k: v.clone() for k, v in r.source.text.net.state_dict().items()}
        losses.append([s.loss for s in fit(r)])
        # pyright: ignore[reportAttributeAccessIssue]
        assert all(torch.equal(v, weights[k]) for k, v in r.source.text.net.state_dict().items())
    assert losses[0][0] == pytest.approx(losses[1][0], rel=1e-5) and losses[0][1] != losses[1][1]


def test_without_captions_there_is_no_text_encoder_to_learn():
    with pytest.raises(BadInput, match=r"data\.text"):
        prepare(recipe("autoencode", steps=1, text=True))


@pytest.mark.slow
def test_a_compiled_network_learns_the_same_to_rounding(stages):
    losses = [
        [s.loss for s in fit(prepare(latent(stages, steps=3, text=True, compile=c)))] for c in (False, True)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
