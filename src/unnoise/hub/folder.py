"""Model folders in and out: the published layout, safetensors only, checked before anything of it is used.

    model_index.json                         the parts, and the sha256 of every weight file
    unet/  (or mlp/, classifier/)            config.json + diffusion_pytorch_model.safetensors
    scheduler/scheduler_config.json          the schedule and prediction type in diffusers' keys, ours under "unnoise"
    codec/config.json, words/config.json     ours: data <-> tensors, and the words that condition a model
    README.md                                the card

What a file is, is decided by its bytes: a pickle, an archive or a web page under a .safetensors name is refused by name.
"""
from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load as parse_safetensors
from safetensors.torch import save as make_safetensors
from torch import Tensor, nn

import unnoise
from unnoise import codec as codecs
from unnoise.errors import BadInput, unknown
from unnoise.nets.classifier import Classifier, ClassifierConfig
from unnoise.nets.mlp import MLP, MLPConfig
from unnoise.nets.unet import UNet, config_from
from unnoise.text.words import Words
from unnoise.train.recipe import ProcessSection

WEIGHTS = "diffusion_pytorch_model.safetensors"
BUNDLED = Path(__file__).parent.parent / "models"
_BETAS = {"ddpm": ("linear", 1e-4, 0.02), "scaled_linear": ("scaled_linear", 0.00085, 0.012), "cosine": ("squaredcos_cap_v2", 1e-4, 0.02)}
_PREDICTIONS = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}
_TWINS = {"unet": ["diffusers", "UNet2DConditionModel"], "mlp": ["unnoise", "MLP"], "classifier": ["unnoise", "Classifier"]}


@dataclass(frozen=True)
class Folder:
    """What a model folder holds, loaded and checked."""

    name: str
    net: nn.Module
    kind: str
    codec: codecs.Codec
    words: Words | None
    process: ProcessSection | None
    defaults: dict
    sha256: str
    path: Path | None = None
    text: object | None = None


# --- reading --------------------------------------------------------------------------------------------------------------

def find(name: str | os.PathLike) -> Path:
    """The folder of a bundled name or of a local folder. BadInput names the bundled ones."""
    path = Path(name)
    if path.is_dir(): return path
    if str(name) in bundled(): return BUNDLED / str(name)
    if path.is_file(): raise BadInput(f"{name} is a file: a model is a folder with model_index.json (or one of: {', '.join(bundled())})")
    raise unknown("model", name, [*bundled(), "a model folder"])


def bundled() -> list[str]:
    """The names of the models that come with the package."""
    return sorted(p.parent.name for p in BUNDLED.glob("*/model_index.json"))


def read_json(path: Path) -> dict:
    """A JSON object from a file. BadInput names the file that is missing or broken."""
    try: d = json.loads(path.read_bytes())
    except FileNotFoundError: raise BadInput(f"{path} is missing") from None
    except OSError as e: raise BadInput(f"cannot read {path}: {e.strerror}") from e
    except ValueError: raise BadInput(f"{path} is not valid JSON") from None
    if not isinstance(d, dict): raise BadInput(f"{path} must hold a JSON object, it holds {type(d).__name__}")
    return d


def read_weights(path: Path, sha256: str | None = None) -> dict[str, Tensor]:
    """The tensors of a safetensors file, after checking what it is, its length and (where known) its hash. Never runs code."""
    try: raw = path.read_bytes()
    except FileNotFoundError: raise BadInput(f"{path} is missing") from None
    except OSError as e: raise BadInput(f"cannot read {path}: {e.strerror}") from e
    _check_bytes(raw, path)
    if sha256 and hashlib.sha256(raw).hexdigest() != sha256:
        raise BadInput(f"{path} is damaged: its sha256 differs from the one recorded in model_index.json")
    try: weights = parse_safetensors(raw)
    except Exception as e:  # the parser has its own exception type
        raise BadInput(f"{path} is not a valid safetensors file: {e}") from None
    for name, t in weights.items():
        if t.is_floating_point() and not torch.isfinite(t).all(): raise BadInput(f"{path}: tensor {name!r} holds non-finite values")
    return weights


def _check_bytes(raw: bytes, path: Path) -> None:
    """BadInput when the bytes are not those of a whole safetensors file; says what they are instead."""
    head = raw[:512].lstrip().lower()
    what = ("a web page" if head.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")) else
            "a zip archive (a PyTorch checkpoint?)" if raw[:4] == b"PK\x03\x04" else
            "a pickle" if raw[:1] == b"\x80" and raw[1:2] in b"\x02\x03\x04\x05" and raw[1:2] else
            "a Git LFS pointer" if head.startswith(b"version https://git-lfs") else
            "empty" if not raw else None)
    if what: raise BadInput(f"{path} is {what}, not safetensors; only safetensors files are read")
    if len(raw) < 8: raise BadInput(f"{path} is truncated: {len(raw)} bytes")
    n = struct.unpack("<Q", raw[:8])[0]
    if n > min(len(raw) - 8, 100_000_000): raise BadInput(f"{path} is truncated or not safetensors: its header asks for {n} bytes of {len(raw)}")
    try: header = json.loads(raw[8 : 8 + n])
    except ValueError: raise BadInput(f"{path} is not safetensors: its header is not JSON") from None
    try: end = max((t["data_offsets"][1] for k, t in header.items() if k != "__metadata__"), default=0)
    except (TypeError, KeyError, IndexError, AttributeError): raise BadInput(f"{path}: the header is damaged") from None
    if len(raw) != 8 + n + end: raise BadInput(f"{path} is truncated or has extra bytes: {len(raw)} bytes, its header says {8 + n + end}")


def load(name: str | os.PathLike, dtype: torch.dtype = torch.float32) -> Folder:
    """Load and check a model folder. BadInput names the file that is missing, broken or does not fit; nothing is run from it."""
    path = find(name)
    index = read_json(path / "model_index.json")
    kinds = [k for k in _TWINS if k in index]
    if not kinds: raise BadInput(f"{path / 'model_index.json'} names none of the networks that are supported ({', '.join(_TWINS)})")
    kind = kinds[0]
    config, file = read_json(path / kind / "config.json"), f"{kind}/{WEIGHTS}"
    weights = read_weights(path / file, index.get("_sha256", {}).get(file))
    net = _build(kind, config, path)
    _fill(net, weights, path / file)
    codec = codecs.from_config(read_json(path / "codec" / "config.json"))
    words = _words(path / "words" / "config.json") if "words" in index else None
    process = None
    if kind != "classifier":
        section = read_json(path / "scheduler" / "scheduler_config.json").get("unnoise")
        if section is None: raise BadInput(f"{path / 'scheduler'}: a published schedule without our section is not supported yet")
        try: process = ProcessSection(**section)
        except (TypeError, ValueError) as e:
            raise BadInput(f"{path / 'scheduler' / 'scheduler_config.json'}: {' '.join(str(e).split()[:20])}") from None
    net.eval().requires_grad_(False).to(dtype)
    parts = [file, *(f"{p}/config.json" for p in (kind, "codec", "words")), "scheduler/scheduler_config.json"]
    digest = hashlib.sha256(b"".join((path / p).read_bytes() for p in parts if (path / p).exists())).hexdigest()
    return Folder(index.get("_name", path.name), net, kind, codec, words, process, index.get("_defaults", {}), digest, path)


def _words(path: Path) -> Words:
    words = read_json(path).get("words")
    if not isinstance(words, list) or not all(isinstance(w, str) for w in words): raise BadInput(f"{path}: 'words' must be a list of texts")
    return Words(tuple(words))


def _build(kind: str, config: dict, path: Path) -> nn.Module:
    config = {k: v for k, v in config.items() if not k.startswith("_")}
    try:
        if kind == "unet": return UNet(config_from(config))
        return MLP(MLPConfig(**config)) if kind == "mlp" else Classifier(ClassifierConfig(**config))
    except BadInput as e: raise BadInput(f"{path / kind / 'config.json'}: {e}") from None
    except ValueError as e: raise BadInput(f"{path / kind / 'config.json'}: {' '.join(str(e).split()[:20])}") from None


def _fill(net: nn.Module, weights: dict[str, Tensor], file: Path) -> None:
    own = net.state_dict()
    for k, v in own.items():
        if k not in weights: raise BadInput(f"{file}: tensor {k!r} is missing")
        if weights[k].shape != v.shape:
            raise BadInput(f"{file}: tensor {k!r} has shape {tuple(weights[k].shape)}, the config asks for {tuple(v.shape)}")
    extra = sorted(set(weights) - set(own))
    if extra: raise BadInput(f"{file}: tensor {extra[0]!r} is not part of this network ({len(extra)} such)")
    net.load_state_dict({k: v.to(own[k].dtype) for k, v in weights.items()})


# --- writing --------------------------------------------------------------------------------------------------------------

def scheduler_config(p: ProcessSection) -> dict:
    """`scheduler_config.json`: diffusers' keys where the schedule is a published one, and ours whole under "unnoise"."""
    base = p.schedule.removesuffix("-zsnr")
    d: dict = {"_class_name": "UnnoiseSchedule", "unnoise": p.model_dump()}
    if base in _BETAS and p.predict in _PREDICTIONS and p.frame == "unit" and p.clock == "table":
        name, start, end = _BETAS[base]
        d |= {"_class_name": "DDIMScheduler", "_diffusers_version": "0.35.0", "num_train_timesteps": 1000, "beta_schedule": name,
              "beta_start": start, "beta_end": end, "prediction_type": _PREDICTIONS[p.predict], "timestep_spacing": "trailing",
              "rescale_betas_zero_snr": p.schedule.endswith("-zsnr"), "clip_sample": False, "set_alpha_to_one": True, "steps_offset": 0}
    return d


def save(folder: str | os.PathLike, *, name: str, kind: str, net: nn.Module, weights: dict[str, Tensor] | None, codec: codecs.Codec,
         words: Words | None, process: ProcessSection | None, defaults: dict | None = None, card: str = "",
         dtype: torch.dtype | None = None, text=None) -> Path:
    """Write a model folder; a temporary one is renamed when it is whole. Returns its path. `weights` None: the net's own.

    BadInput: the folder exists and is not a model folder, cannot be written, or the weights are not finite.
    """
    folder = Path(folder)
    if folder.exists() and not (folder / "model_index.json").exists() and any(folder.iterdir() if folder.is_dir() else [1]):
        raise BadInput(f"{folder} exists and is not a model folder: it is left as it is")
    weights = {k: v.detach().cpu().contiguous() for k, v in (weights or net.state_dict()).items()}
    if dtype: weights = {k: v.to(dtype) if v.is_floating_point() else v for k, v in weights.items()}
    for k, v in weights.items():
        if v.is_floating_point() and not torch.isfinite(v).all(): raise BadInput(f"refusing to save {name}: tensor {k!r} is not finite")
    raw = make_safetensors(weights, metadata={"format": "pt"})
    index = {"_class_name": "UnnoisePipeline", "_unnoise_version": unnoise.__version__, "_name": name, kind: _TWINS[kind],
             "codec": ["unnoise", type(codec).__name__], "_sha256": {f"{kind}/{WEIGHTS}": hashlib.sha256(raw).hexdigest()}}
    files: dict[str, bytes] = {f"{kind}/{WEIGHTS}": raw, f"{kind}/config.json": _json(_net_config(kind, net)),
                               "codec/config.json": _json(codec.config())}
    if words:
        index["words"] = ["unnoise", "Words"]
        files["words/config.json"] = _json(words.config())
    if process:
        config = scheduler_config(process)
        index["scheduler"] = ["diffusers" if config["_class_name"] == "DDIMScheduler" else "unnoise", config["_class_name"]]
        files["scheduler/scheduler_config.json"] = _json(config)
    if defaults: index["_defaults"] = defaults
    if card: files["README.md"] = card.encode()
    return write_folder(folder, {**files, "model_index.json": _json(index)})


def write_folder(folder: Path, files: dict[str, bytes]) -> Path:
    """Write files under a temporary folder, then put it in the place of `folder`."""
    temp = folder.with_name(f".{folder.name}.part")
    try:
        shutil.rmtree(temp, ignore_errors=True)
        for name, raw in files.items():
            (temp / name).parent.mkdir(parents=True, exist_ok=True)
            (temp / name).write_bytes(raw)
        old = folder.with_name(f".{folder.name}.old")
        if folder.exists(): folder.rename(old)
        temp.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as e:
        shutil.rmtree(temp, ignore_errors=True)
        raise BadInput(f"cannot write {folder}: {e.strerror or e}") from e
    return folder


def _json(d: dict) -> bytes:
    return json.dumps(d, indent=2).encode() + b"\n"


def _net_config(kind: str, net: nn.Module) -> dict:
    d = json.loads(net.config.model_dump_json())  # type: ignore[union-attr]
    if kind == "unet":
        d = {"_class_name": "UNet2DConditionModel", "_diffusers_version": "0.35.0", **d}
        if d["time"]: del d["time"]  # diffusers knows no nets without it
    return d


def save_run(run, weights: dict[str, Tensor], folder: Path) -> Path:
    """The model folder of a finished training run."""
    recipe, src = run.recipe, run.source
    words = Words(tuple(src.words)) if src.labels is not None else None
    process = recipe.process if recipe.task == "denoise" else None
    return save(folder, name=recipe.name, kind=recipe.net["kind"], net=run.net, weights=weights, codec=src.codec, words=words, process=process)
