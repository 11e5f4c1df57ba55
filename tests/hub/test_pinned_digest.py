"""A model's hash is of everything that its pictures depend on: editing any one of its files gives another."""

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from tests.support.painter import painter
from unnoise import hub


@pytest.fixture(scope="module")
def folders(tiny, tmp_path_factory) -> dict[str, Path]:
    return {"pixels": tiny, "latents": painter(tmp_path_factory.mktemp("models") / "painter")}


def files(folder: Path) -> list[str]:
    return sorted(
        str(p.relative_to(folder))
        for p in folder.rglob("*")
        if p.is_file() and p.name not in ("model_index.json", "README.md")
    )


def edited(folder: Path, to: Path, name: str, content: bytes | None = None) -> str:
    """The hash of a copy of a folder in which one file is another: `content`, or the same with what means
    nothing to a reader.
    """
    copy = shutil.copytree(folder, to)
    file = copy / name
    if content is not None:
        file.write_bytes(content)
    elif name.endswith(".safetensors"):
        tensors = load_file(file)
        first = min(k for k, v in tensors.items() if v.is_floating_point())
        tensors[first].view(-1)[0] += 0.125
        save_file(tensors, file, metadata={"format": "pt"})
    elif name.endswith("merges.txt"):
        file.write_text(file.read_text().replace("#version: 0.2", "#version: 0.20", 1))
    else:
        file.write_bytes(file.read_bytes() + b"\n")
    index = json.loads((copy / "model_index.json").read_text())
    assert name in index["_sha256"]
    del index["_sha256"]
    (copy / "model_index.json").write_text(json.dumps(index))
    return hub.load(copy).sha256


PIXELS = [
    "codec/config.json",
    "scheduler/scheduler_config.json",
    "unet/config.json",
    f"unet/{hub.WEIGHTS}",
    "words/config.json",
]
LATENTS = [
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "tokenizer/merges.txt",
    "tokenizer/special_tokens_map.json",
    "tokenizer/tokenizer.json",
    "tokenizer/tokenizer_config.json",
    "tokenizer/vocab.json",
    "unet/config.json",
    f"unet/{hub.WEIGHTS}",
    "vae/config.json",
    f"vae/{hub.WEIGHTS}",
]


def test_these_are_all_the_files(folders):
    assert files(folders["pixels"]) == PIXELS
    assert files(folders["latents"]) == LATENTS


@pytest.mark.parametrize(
    ("model", "name"), [*(("pixels", n) for n in PIXELS), *(("latents", n) for n in LATENTS)]
)
def test_editing_a_file_changes_the_hash(folders, tmp_path, model, name):
    assert edited(folders[model], tmp_path / "edited", name) != hub.load(folders[model]).sha256


def test_another_schedule_is_another_model(folders, tmp_path):
    """Not only as bytes: with other betas the same weights draw something else."""
    name = "scheduler/scheduler_config.json"
    config = json.loads((folders["pixels"] / name).read_text())
    config["prediction_type"] = "sample"
    assert (
        edited(folders["pixels"], tmp_path / "edited", name, json.dumps(config).encode())
        != hub.load(folders["pixels"]).sha256
    )
    process = hub.load(tmp_path / "edited").process
    assert process is not None
    assert process.predict == "x0"


def test_where_a_model_lies_and_what_its_card_says_is_not_in_its_hash(folders, tmp_path):
    copy = shutil.copytree(folders["latents"], tmp_path / "elsewhere")
    (copy / "README.md").write_text("another card")
    assert hub.load(copy).sha256 == hub.load(folders["latents"]).sha256
