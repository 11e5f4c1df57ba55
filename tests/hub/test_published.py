"""Stable Diffusion folders as they are published: what opens, what is refused and how, and that a pickle is
never opened.
"""

import json
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import unnoise
from tests.support import sd
from unnoise import hub
from unnoise.cli.main import main
from unnoise.errors import BadInput
from unnoise.hub import weights

UNET, VAE, TEXT = f"unet/{hub.WEIGHTS}", f"vae/{hub.WEIGHTS}", "text_encoder/model.safetensors"
ASK = dict(seed=1, num_inference_steps=2, guidance_scale=3.0)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A 1.x-shaped folder as diffusers writes it: no hashes."""
    return sd.make(tmp_path_factory.mktemp("published") / "model")


@pytest.fixture(scope="module")
def ours(published, tmp_path_factory):
    """The same as we write it: every file's hash is in the index."""
    return unnoise.load(published).save_pretrained(tmp_path_factory.mktemp("ours") / "model")


@pytest.fixture
def folder(published, tmp_path):
    return shutil.copytree(published, tmp_path / "model")


class Gadget:
    """Unpickled, it leaves a trace."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return (open, (str(self.trace), "w"))


def damage(file: Path, what: str, trace: Path) -> None:
    raw = file.read_bytes()
    if what == "missing":
        return file.unlink()
    if what == "zip":
        return torch.save({"x": Gadget(trace)}, file)
    middle = len(raw) // 2
    file.write_bytes(
        {
            "truncated": raw[: len(raw) // 2],
            "one byte short": raw[:-1],
            "empty": b"",
            "html": b"<!DOCTYPE html><html>404</html>",
            "pickle": pickle.dumps(Gadget(trace)),
            "binary": bytes(range(256)) * 20,
            "flipped": raw[:middle] + bytes([raw[middle] ^ 4]) + raw[middle + 1 :],
        }[what]
    )


WHOLE = [
    "model_index.json",
    UNET,
    "unet/config.json",
    VAE,
    "vae/config.json",
    TEXT,
    "text_encoder/config.json",
    "scheduler/scheduler_config.json",
]


@pytest.mark.parametrize("file", WHOLE)
@pytest.mark.parametrize(
    "what", ["truncated", "one byte short", "empty", "html", "pickle", "zip", "binary", "missing"]
)
def test_every_damaged_file_is_named_before_anything_runs(folder, tmp_path, file, what, capsys):
    if what == "one byte short" and file.endswith(".json"):
        pytest.skip("the last byte of a JSON file is its line end")
    trace = tmp_path / "trace"
    damage(folder / file, what, trace)
    with pytest.raises(SystemExit) as e:
        main(["generate", "a cat", "--model", str(folder), "-o", str(tmp_path / "a.png")])
    said = capsys.readouterr().err
    assert (
        e.value.code == 2 and said.startswith("error: ") and said.count("\n") == 1 and Path(file).name in said
    ), said
    assert not trace.exists() and not (tmp_path / "a.png").exists()


@pytest.mark.parametrize("what", ["truncated", "empty", "html", "pickle", "binary"])
def test_every_damaged_tokenizer_file_is_named(published, tmp_path, what):
    for file in sorted((published / "tokenizer").iterdir()):
        folder = shutil.copytree(published, tmp_path / f"model-{file.stem}")
        damage(folder / "tokenizer" / file.name, what, tmp_path / "trace")
        with pytest.raises(BadInput, match=file.name):
            hub.load(folder)
    assert not (tmp_path / "trace").exists()


def test_one_flipped_bit_anywhere_is_named(ours, tmp_path):
    files = [
        p.relative_to(ours) for p in sorted(ours.rglob("*")) if p.is_file() and p.name != "model_index.json"
    ]
    assert len(files) >= 11
    for i, file in enumerate(files):
        folder = shutil.copytree(ours, tmp_path / str(i))
        damage(folder / file, "flipped", tmp_path / "trace")
        with pytest.raises(BadInput, match=file.name):
            hub.load(folder)


@pytest.mark.parametrize(
    ("file", "name"),
    [(UNET, "conv_in.weight"), (VAE, "decoder.conv_in.weight"), (TEXT, "final_layer_norm.weight")],
)
def test_wrong_shapes_missing_and_unknown_tensors_are_named(folder, file, name):
    good = load_file(folder / file)
    name = next(k for k in good if k.endswith(name))
    for bad, said in (
        ({**good, name: torch.zeros(3, 5)}, "shape"),
        ({k: v for k, v in good.items() if k != name}, "missing"),
        ({**good, name.replace(".weight", ".more.weight"): torch.zeros(2)}, "not part"),
        ({**good, name: good[name] * float("nan")}, "finite"),
        ({**good, name: good[name].to(torch.int32)}, "int32"),
    ):
        save_file(bad, folder / file)
        with pytest.raises(BadInput, match=said) as e:
            hub.load(folder)
        assert str(Path(file).parent) in str(e.value)


def test_a_pickle_beside_nothing_is_never_opened(folder, tmp_path):
    (folder / UNET).unlink()
    (folder / "unet/diffusion_pytorch_model.bin").write_bytes(pickle.dumps(Gadget(tmp_path / "trace")))
    with pytest.raises(BadInput, match=r"diffusion_pytorch_model.bin is there, a pickle"):
        hub.load(folder)
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize(
    ("family", "part"),
    [
        ("StableDiffusionXLPipeline", "text_encoder_2"),
        ("StableDiffusion3Pipeline", "transformer"),
        ("FluxPipeline", "transformer"),
        ("KandinskyPipeline", "movq"),
    ],
)
def test_other_families_are_named_and_refused(folder, family, part):
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(
        json.dumps(index | {"_class_name": family, part: ["diffusers", "X"]})
    )
    with pytest.raises(BadInput, match=rf"{family}.*StableDiffusionPipeline"):
        hub.load(folder)


def edit(file: Path, **changes) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_parts_that_do_not_fit_are_refused(folder):
    edit(folder / "scheduler/scheduler_config.json", _class_name="DreamScheduler")
    with pytest.raises(BadInput, match="DreamScheduler"):
        hub.load(folder)
    edit(folder / "scheduler/scheduler_config.json", _class_name="DDIMScheduler")
    other = sd.make(folder.parent / "other", "2.x")
    shutil.rmtree(folder / "text_encoder")
    shutil.copytree(other / "text_encoder", folder / "text_encoder")
    with pytest.raises(BadInput, match="text_encoder has width 48, the UNet attends to 32"):
        hub.load(folder)


def test_variants_and_shards(tmp_path, published):
    half = sd.make(tmp_path / "half", dtype=torch.float16, variant="fp16")
    assert not (half / UNET).exists() and next(hub.load(half).net.parameters()).dtype == torch.float32
    assert hub.load(half, variant="fp16").sha256 == hub.load(half).sha256
    with pytest.raises(BadInput, match=r"variant 'bf16'.*there are: fp16"):
        hub.load(half, variant="bf16")
    cut = sd.make(tmp_path / "cut", max_shard_size="100KB")
    assert len(list((cut / "unet").glob("*.safetensors"))) > 1
    for a, b in zip(hub.load(cut).net.parameters(), hub.load(published).net.parameters()):
        assert torch.equal(a, b)
    next((cut / "unet").glob("*00002*.safetensors")).unlink()
    with pytest.raises(BadInput, match="00002-of"):
        hub.load(cut)


@pytest.mark.parametrize(
    "bad",
    [
        dict(height=100),
        dict(width=-8),
        dict(width=0),
        dict(height=10**9),
        dict(height=8.0),
        dict(clip_skip=3),
        dict(clip_skip=-1),
        dict(guidance_scale=float("nan")),
    ],
)
def test_bad_requests_are_one_line(published, bad):
    pipe = unnoise.load(published)
    if bad == dict(height=100):
        bad = dict(height=33)  # two levels here: multiples of 2
    with pytest.raises(BadInput) as e:
        pipe("a cat", **{**ASK, **bad})
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    "prompt", ["", "a" * 10_000, "a cat " * 2000, "a\x00cat\n\t\x1b[31m", "((((", "🐱 " * 50]
)
def test_any_text_is_a_prompt(published, prompt):
    assert unnoise.load(published)(prompt, **{**ASK, "num_inference_steps": 1}).arrays.shape == (1, 16, 16, 3)


def test_an_image_is_its_seeds_alone(published):
    """Batches, threads and what is drawn beside it change no bit; prompts of several lengths go together."""
    pipe = unnoise.load(published)
    prompts = ["a cat", "a red apple " * 40, "a [cat|dog]", "{a horse:0.3|a dog:0.7}"]
    ask = dict(num_inference_steps=3, guidance_scale=4.0, sampler="euler_ancestral")
    alone = [pipe(p, seed=i, **ask).arrays[0] for i, p in enumerate(prompts)]
    together = pipe(prompts, seed=range(4), **ask)
    for a, b in zip(alone, together.arrays):
        assert np.array_equal(a, b)
    assert np.array_equal(pipe(prompts, seed=range(4), batch_size=1, **ask).arrays, together.arrays)
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda i: pipe(prompts[i % 4], seed=i % 4, **ask).arrays[0], range(8)))
    for i, a in enumerate(made):
        assert np.array_equal(a, alone[i % 4])


def test_other_sizes(published):
    pipe = unnoise.load(published)
    result = pipe("a cat", height=18, width=26, **ASK)
    assert result.arrays.shape == (1, 18, 26, 3) and (
        result.recipes[0]["height"],
        result.recipes[0]["width"],
    ) == (18, 26)


def test_mapped_weights_draw_the_same_and_are_given_back(published, tmp_path, monkeypatch):
    want = unnoise.load(published)("a cat", **ASK).arrays
    half = sd.make(tmp_path / "half", dtype=torch.float16)
    want_half = unnoise.load(half)("a cat", **ASK).arrays
    monkeypatch.setattr(weights, "MAP_ABOVE", 1000)
    pipe = unnoise.load(published)
    assert weights.mapped(next(pipe.net.parameters()))
    assert np.array_equal(pipe("a cat", **ASK).arrays, want)
    pipe = unnoise.load(half)
    assert next(pipe.net.parameters()).dtype == torch.float16, "large nets keep the type of their file"
    assert np.array_equal(pipe("a cat", **ASK).arrays, want_half)
    assert np.array_equal(unnoise.load(published, memory_budget="4GB")("a cat", **ASK).arrays, want)


def test_what_overflows_half_precision_is_made_again_in_float32(published, monkeypatch):
    pipe = unnoise.load(published, dtype="bf16")
    want = unnoise.load(published)("a cat", **ASK).arrays
    plain = pipe.net.forward

    def overflowing(x, *args, **kwargs):
        y = plain(x, *args, **kwargs)
        return y if y.dtype == torch.float32 else y * float("inf")

    monkeypatch.setattr(pipe.net, "forward", overflowing)
    result = pipe("a cat", **ASK)
    assert result.nfe == 2 and np.abs(result.arrays.astype(int) - want).max() <= 1


def test_gradients_reach_the_sample_through_the_network_and_the_decoder(published):
    """What guidance by a loss needs: x0 and its picture, differentiated with respect to x, with the prompt's
    keys ready or not.
    """
    pipe = unnoise.load(published)
    r = pipe.request("a cat", negative_prompt="a dog", seed=1, num_inference_steps=2)
    path = pipe.path(r)
    denoise = pipe.denoiser(r.prompts, r.negatives, 3.0, path=path)
    x = torch.randn(pipe.codec.shape(1), generator=torch.Generator().manual_seed(0))
    before = denoise(x, path[0])
    x.requires_grad_(True)
    x0 = denoise(x, path[0])
    assert torch.allclose(x0.detach(), before, atol=1e-4)
    picture = pipe.codec.net.decode(pipe.codec.unscale(x0))
    (g,) = torch.autograd.grad(picture.square().mean(), x)
    assert torch.isfinite(g).all() and g.abs().max() > 0
