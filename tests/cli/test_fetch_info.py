"""`unnoise fetch` and `unnoise info` as a user runs them."""

import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from safetensors.numpy import save

from tests.support.hubserver import NEEDED, NET, REPO, HubServer, tensors
from unnoise import hub
from unnoise.cli.main import main

UNET = f"unet/{NET}.safetensors"


@pytest.fixture
def server(tmp_path, monkeypatch):
    s = HubServer()
    monkeypatch.setenv("UNNOISE_CACHE", str(tmp_path / "home"))
    monkeypatch.setenv("HF_ENDPOINT", s.endpoint)
    yield s
    s.close()


@pytest.fixture
def sd(server, tmp_path):
    """A published folder as a user has it who copied all of it."""
    for name, raw in server.files.items():
        (tmp_path / "sd" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "sd" / name).write_bytes(raw)
    return tmp_path / "sd"


def run(capfd, *args):
    """(exit code, stdout, stderr) of a command in this process."""
    with pytest.raises(SystemExit) as e:
        main([str(a) for a in args])
    out, err = capfd.readouterr()
    return e.value.code, out, err


def told(capfd, *args) -> dict:
    code, out, err = run(capfd, *args, "--json")
    assert code == 0 and out.count("\n") == 1, (code, out, err)
    return json.loads(out)


def bad(capfd, *args) -> str:
    code, out, err = run(capfd, *args)
    assert code == 2 and out == "" and err.startswith("error: ") and err.count("\n") == 1, (code, out, err)
    return err


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


# --- fetch --------------------------------------------------------------------------------------------------


def test_fetch_then_offline(server, capfd, tmp_path, monkeypatch):
    plan = told(capfd, "fetch", REPO, "--dry-run")
    assert list(tmp_path.iterdir()) == [] and sorted(plan["files"]) == NEEDED
    d = told(capfd, "fetch", REPO)
    assert (
        d["folder"] == str(tmp_path / "home" / "models" / REPO)
        and d["files"] == NEEDED
        and d["bytes"] == plan["bytes"] == d["received"]
    )
    monkeypatch.setattr(socket, "socket", None)
    monkeypatch.setattr(socket, "getaddrinfo", None)
    assert told(capfd, "fetch", REPO)["received"] == 0
    assert "already here" in run(capfd, "fetch", REPO)[1]
    assert told(capfd, "info", REPO)["manifest"] == {
        "repo": REPO,
        "commit": "a" * 40,
        "variant": None,
        "matches": True,
    }


def test_fetch_says_what_is_wrong(server, capfd, monkeypatch):
    assert "owner/model" in bad(capfd, "fetch", "stable-diffusion")
    assert "no revision 'v9'" in bad(capfd, "fetch", REPO, "--revision", "v9")
    assert "did you mean 'fp16'" in bad(capfd, "fetch", REPO, "--variant", "fp61")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    assert "HF_TOKEN" in bad(capfd, "fetch", REPO, "--token-from-env")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert told(capfd, "fetch", REPO, "--token-from-env", "--variant", "fp16")["variant"] == "fp16"
    assert all("hf_secret" in str(h) for f, h in server.requests[-5:] if not f.endswith(".safetensors"))


def test_ctrl_c_keeps_what_has_come(server, capfd, tmp_path):
    server.faults[UNET] = [{"hang": 123_456}]
    heard = lambda: signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # also where the tests run in the background, which ignores it
    p = subprocess.Popen(
        [sys.executable, "-m", "unnoise.cli.main", "fetch", REPO],
        env=os.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=heard,
    )
    until = time.time() + 60
    while not [f for f in (tmp_path / "home").rglob("*.part/*.part") if f.stat().st_size == 123_456]:
        assert time.time() < until and p.poll() is None
        time.sleep(0.02)
    p.send_signal(signal.SIGINT)
    out, err = p.communicate(timeout=30)
    assert (
        p.returncode == 130
        and out == b""
        and err.count(b"\n") == 1
        and f"unnoise fetch {REPO}".encode() in err
    )
    server.go.set()
    assert told(capfd, "fetch", REPO)["received"] == len(server.files[UNET]) - 123_456


# --- info ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["digits", "digits-judge"])
def test_info_of_a_bundled_model_agrees_with_the_loaded_one(capfd, server, name):
    d, f = told(capfd, "info", name), hub.load(name)
    assert (
        d["components"][f.kind]["parameters"] == d["parameters"] == sum(p.numel() for p in f.net.parameters())
    )
    assert (
        d["components"][f.kind]["dtypes"] == ["F16"]
        and d["licence"] == "MIT"
        and d["image"] == {"height": 28, "width": 28, "channels": 1}
    )
    assert (
        d["prediction"] == ("v" if f.process else None)
        and d["text"] == {"words": 20}
        and d["ignored"] == []
        and d["manifest"] is None
    )
    if f.process:
        assert (
            d["schedule"]["name"] == "cosine"
            and d["schedule"]["T"] == 1000
            and d["sampler"]["sampler"] == "dpmpp_2m"
        )
    file = hub.BUNDLED / name / f.kind / hub.WEIGHTS
    assert (
        d["sha256"] == {f"{f.kind}/{hub.WEIGHTS}": hashlib.sha256(file.read_bytes()).hexdigest()}
        and d["bytes"] == file.stat().st_size
    )


def test_info_of_the_default_model_and_its_judge(capfd, server):
    d, f = told(capfd, "info", "emoji"), hub.load("emoji")
    assert {"unet", "vae", "text_encoder", "image_encoder"} == {
        k for k, c in d["components"].items() if "bytes" in c
    } and d["ignored"] == []
    assert (
        d["components"]["unet"]["parameters"] == sum(p.numel() for p in f.net.parameters())
        and d["licence"] == "MIT"
    )
    assert (
        d["image"]["height"] == d["image"]["width"] == 64
        and d["image"]["latent"] == [16, 8, 8]
        and d["prediction"] == "v"
    )
    judge = told(capfd, "info", "emoji-judge")
    assert judge["components"]["recogniser"]["class"] == "Recogniser" and judge["image"] == {
        "height": 64,
        "width": 64,
        "channels": 3,
    }


def test_info_of_small_models(capfd, server, tiny, vectors):
    assert told(capfd, "info", tiny)["image"] == {"height": 8, "width": 8, "channels": 1}
    d = told(capfd, "info", vectors)
    assert d["components"]["mlp"]["class"] == "MLP" and d["parameters"] == sum(
        p.numel() for p in hub.load(vectors).net.parameters()
    )


def test_info_of_a_stable_diffusion_folder(capfd, sd):
    d = told(capfd, "info", sd)
    assert {
        k: (c["parameters"], c["bytes"], c["dtypes"]) for k, c in d["components"].items() if "bytes" in c
    } == {
        "unet": (100_100, 400_400, ["F32"]),
        "vae": (5000, 20_000, ["F32"]),
        "text_encoder": (1024, 4 * 1024 + 8 * 77, ["F32"]),
    }
    assert (
        d["parameters"] == 106_124
        and d["components"]["tokenizer"] == {"class": "CLIPTokenizer"}
        and d["class"] == "StableDiffusionPipeline"
    )
    assert d["prediction"] == "v" and d["sampler"] == {"sampler": "ddim", "spacing": "trailing"}
    assert d["schedule"] == {
        "name": "scaled_linear-zsnr",
        "class": "DDIMScheduler",
        "T": 1000,
        "start": 0.00085,
        "end": 0.012,
        "zero_terminal_snr": True,
    }
    assert d["image"] == {"height": 64, "width": 64, "channels": 3, "latent": [4, 8, 8]} and d["text"] == {
        "width": 32,
        "context": 77,
    }
    assert d["licence"] == "creativeml-openrail-m" and d["manifest"] is None
    assert {
        "safety_checker",
        "feature_extractor",
        f"unet/{NET}.fp16.safetensors",
        f"unet/{NET}.bin",
        "v1-5.ckpt",
    } <= set(d["ignored"])
    assert "unet" not in d["ignored"] and "image_encoder" not in d["ignored"]
    assert d["sha256"][UNET] == hashlib.sha256((sd / UNET).read_bytes()).hexdigest() and len(d["sha256"]) == 3
    text = run(capfd, "info", sd)[1]
    assert all(
        s in text
        for s in (
            "106.1 k parameters",
            "creativeml-openrail-m",
            "scaled_linear-zsnr",
            d["sha256"][UNET],
            "safety_checker",
        )
    )


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlicense: mit\n---\n", "mit"),
        ("---\nlicense:\n- apache-2.0\n---\n", "apache-2.0"),
        ("---\nx: 1\nlicense: 'other'\n---", "other"),
        ("# license: mit\n", None),
        ("---\nx: y\n---\nlicense: mit\n", None),
    ],
)
def test_a_licence_is_said_only_where_it_is_stated(capfd, sd, card, licence):
    (sd / "README.md").write_text(card)
    assert told(capfd, "info", sd, "--no-hash")["licence"] == licence
    (sd / UNET).write_bytes(
        save({"w": np.zeros(3, np.float32)}, metadata={"modelspec.license": "from the file"})
    )
    assert told(capfd, "info", sd, "--no-hash")["licence"] == (licence or "from the file")


def test_shards_and_variants_count_once(capfd, sd):
    (sd / UNET).unlink()
    d = told(capfd, "info", sd)  # fp16 is the only variant left beside non_ema
    assert d["components"]["unet"]["parameters"] == 100_000 and d["components"]["unet"]["dtypes"] == ["F16"]
    names = [f"{NET}-0000{i}-of-00002.safetensors" for i in (1, 2)]
    for i, name in enumerate(names):
        (sd / "unet" / name).write_bytes(tensors(i, **{f"w{i}": (10, 10)}))
    (sd / "unet" / f"{NET}.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"w0": names[0], "w1": names[1]}})
    )
    d = told(capfd, "info", sd)
    assert d["components"]["unet"]["parameters"] == 200 and set(d["sha256"]) >= {f"unet/{n}" for n in names}
    (sd / "unet" / names[1]).unlink()
    assert names[1] in bad(capfd, "info", sd)


def test_no_hash_reads_no_weights(capfd, sd, monkeypatch):
    raw = bytearray((sd / UNET).read_bytes())
    raw[-4:] = np.float32(np.nan).tobytes()
    (sd / UNET).write_bytes(raw)
    d = told(capfd, "info", sd, "--no-hash")
    assert d["sha256"] is None and d["parameters"] == 106_124
    assert UNET in bad(capfd, "info", sd) and "'conv'" in bad(capfd, "info", sd)


def test_info_of_a_single_file(capfd, server, tmp_path):
    file = tmp_path / "model.safetensors"
    file.write_bytes(
        save(
            {
                "model.diffusion_model.a.weight": np.zeros((3, 4), np.float16),
                "first_stage_model.b": np.zeros(5, np.float32),
                "cond_stage_model.c": np.zeros(6, np.float32),
                "cond_stage_model.ids": np.arange(7),
                "alphas_cumprod": np.zeros(8, np.float32),
            },
            metadata={
                "modelspec.title": "T",
                "modelspec.architecture": "stable-diffusion-v1",
                "modelspec.license": "L",
            },
        )
    )
    d = told(capfd, "info", file)
    assert {k: (c["parameters"], c["tensors"], c["dtypes"]) for k, c in d["components"].items()} == {
        "unet": (12, 1, ["F16"]),
        "vae": (5, 1, ["F32"]),
        "text_encoder": (6, 2, ["F32"]),
        "alphas_cumprod": (8, 1, ["F32"]),
    }
    assert (d["name"], d["class"], d["licence"]) == ("T", "stable-diffusion-v1", "L")
    assert d["sha256"] == {"model.safetensors": hashlib.sha256(file.read_bytes()).hexdigest()}
    assert run(capfd, "info", file)[0] == 0


def broken(kind):
    return {
        "truncated": lambda b: b[:-1],
        "page": lambda b: b"<!doctype html>",
        "pickle": lambda b: b"\x80\x02}q\x00.",
        "empty": lambda b: b"",
    }[kind]


@pytest.mark.parametrize("kind", ["truncated", "page", "pickle", "empty"])
@pytest.mark.parametrize(
    "file",
    [
        UNET,
        "text_encoder/model.safetensors",
        "unet/config.json",
        "scheduler/scheduler_config.json",
        "model_index.json",
    ],
)
def test_a_broken_file_is_named(capfd, sd, file, kind):
    (sd / file).write_bytes(broken(kind)((sd / file).read_bytes()))
    assert str(sd / file) in bad(capfd, "info", sd, "--no-hash")


@pytest.mark.parametrize(
    ("file", "changes", "said"),
    [
        ("unet/config.json", {"cross_attention_dim": 1024}, "width is 32"),
        ("unet/config.json", {"sample_size": None}, "sample_size"),
        ("scheduler/scheduler_config.json", {"_class_name": "NopeScheduler"}, "NopeScheduler"),
        ("vae/config.json", {"block_out_channels": 3}, "block_out"),
        (
            "model_index.json",
            {"_class_name": "StableDiffusionXLPipeline", "text_encoder_2": ["a", "b"]},
            "StableDiffusionXLPipeline",
        ),
    ],
)
def test_parts_that_do_not_fit_are_named(capfd, sd, file, changes, said):
    edit(sd / file, **changes)
    assert said in bad(capfd, "info", sd)


@pytest.mark.parametrize("file", [UNET, "tokenizer/vocab.json", "README.md"])
def test_what_differs_from_the_manifest_is_named_and_comes_again(capfd, server, tmp_path, file):
    place = tmp_path / "home" / "models" / REPO
    told(capfd, "fetch", REPO)
    raw = bytearray((place / file).read_bytes())
    raw[-2] ^= 1
    (place / file).write_bytes(raw)
    told(capfd, "info", REPO, "--no-hash")
    text = bad(capfd, "info", REPO)
    assert str(place / file) in text and "delete it" in text
    (place / file).unlink()
    assert str(place / file) in bad(capfd, "info", REPO, "--no-hash")
    assert told(capfd, "fetch", REPO)["received"] == len(raw)
    assert told(capfd, "info", REPO)["manifest"]["matches"]


def test_a_saved_folder_whose_files_were_changed(capfd, server, tiny, tmp_path):
    model = shutil.copytree(tiny, tmp_path / "m")
    file = model / "unet" / hub.WEIGHTS
    raw = bytearray(file.read_bytes())
    raw[-1] ^= 1
    file.write_bytes(raw)
    assert str(file) in bad(capfd, "info", model) and run(capfd, "info", model, "--no-hash")[0] == 0


def test_names(capfd, server):
    assert "unnoise fetch painter/nothing" in bad(capfd, "info", "painter/nothing")
    assert "digits" in bad(capfd, "info", "nothing")
    assert server.paths == []


def test_counts_need_no_tensor(capfd, sd, monkeypatch):
    monkeypatch.setattr(torch, "frombuffer", None)
    told(capfd, "info", sd, "--no-hash")
