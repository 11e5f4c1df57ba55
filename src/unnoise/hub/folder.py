"""Model folders in and out: the published layout, safetensors only, checked before anything of it is used.

    model_index.json                         the parts, and the sha256 of every file
    unet/  (or mlp/, classifier/)            config.json + diffusion_pytorch_model.safetensors
    vae/                                     the same; or codec/config.json, ours, for models of pixels and vectors
    text_encoder/, tokenizer/                config.json + model.safetensors; vocab.json + merges.txt; or words/config.json, ours
    scheduler/scheduler_config.json          the schedule and prediction type in diffusers' keys, ours under "_unnoise"
    README.md                                the card

A weight file may carry a variant (`….fp16.safetensors`) or be cut into shards (`….safetensors.index.json`). A single-file
checkpoint in the original layout of Stable Diffusion opens too (`hub.original`); it has no tokenizer: one beside it is used.
"""
from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

import unnoise
from unnoise import codec as codecs
from unnoise.codec import Latents
from unnoise.errors import BadInput, unknown
from unnoise.hub import schedulers, store, weights
from unnoise.hub.store import Content
from unnoise.nets.autoencoder import Autoencoder, autoencoder_config_from, legacy_keys
from unnoise.nets.classifier import Classifier, ClassifierConfig
from unnoise.nets.mlp import MLP, MLPConfig
from unnoise.nets.recogniser import Recogniser, RecogniserConfig
from unnoise.nets.unet import UNet, config_from
from unnoise.text.known import FILE, Known
from unnoise.text.words import Words
from unnoise.train.recipe import ProcessSection

if TYPE_CHECKING:
    from unnoise.nets.clip import CLIP
    from unnoise.text.encode import PromptEncoder

WEIGHTS = "diffusion_pytorch_model.safetensors"
BUNDLED = Path(__file__).parent.parent / "models"
NETS = ("unet", "mlp", "classifier", "recogniser")
JUDGES = ("classifier", "recogniser")  # these look at pictures and make none
TWINS = {"unet": ["diffusers", "UNet2DConditionModel"], "mlp": ["unnoise", "MLP"], "classifier": ["unnoise", "Classifier"],
         "recogniser": ["unnoise", "Recogniser"],
          "vae": ["diffusers", "AutoencoderKL"], "text_encoder": ["transformers", "CLIPTextModel"], "tokenizer": ["transformers", "CLIPTokenizer"]}
FAMILIES = ("StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline", "StableDiffusionInpaintPipeline", "UnnoisePipeline")


Net = TypeVar("Net", bound=nn.Module)


@dataclass(frozen=True)
class Folder:
    """What a model folder holds, loaded and checked. Large nets keep the number type of their file and lie in a map of it."""

    name: str
    net: nn.Module
    kind: str
    codec: codecs.Codec
    words: Words | None
    process: ProcessSection | None
    defaults: dict
    sha256: str
    path: Path | None = None
    text: PromptEncoder | None = None


# --- reading --------------------------------------------------------------------------------------------------------------

def find(name: str | os.PathLike) -> Path:
    """Where a model lies: a local folder or checkpoint file, a bundled name, or a hub id that was fetched. BadInput names these."""
    path = Path(name)
    if path.is_dir(): return path
    if str(name) in bundled(): return BUNDLED / str(name)
    if path.is_file(): return path
    from unnoise.hub import fetch

    if fetched := fetch.local(str(name)): return fetched
    if str(name).count("/") == 1 and not str(name).startswith((".", "/", "~")):
        raise BadInput(f"model {str(name)!r} is neither a folder nor fetched: unnoise fetch {name} gets it (bundled: {', '.join(bundled())})")
    raise unknown("model", name, bundled(), ("a model folder", "a .safetensors checkpoint", "owner/model, once fetched"))


def bundled() -> list[str]:
    """The names of the models that come with the package."""
    return sorted(p.parent.name for p in BUNDLED.glob("*/model_index.json"))


def read_json(path: Path) -> dict:
    """A JSON object from a file. BadInput names the file that is missing or broken."""
    try: d = json.loads(path.read_bytes())
    except FileNotFoundError: raise BadInput(f"{path} is missing") from None
    except OSError as e: raise BadInput(f"cannot read {path}: {e.strerror}") from e
    except (ValueError, RecursionError): raise BadInput(f"{path} is not valid JSON") from None
    if not isinstance(d, dict): raise BadInput(f"{path} must hold a JSON object, it holds {type(d).__name__}")
    return d


def load(name: str | os.PathLike, dtype: torch.dtype = torch.float32, variant: str | None = None,
         tokenizer: str | os.PathLike | None = None, prediction: str | None = None) -> Folder:
    """Load and check a model folder or checkpoint file. BadInput names the file that is missing, broken or does not fit.

    variant: of the weight files ("fp16"); None takes the plain ones, or the only variant there is. tokenizer: the folder of
    one, instead of the model's own. prediction: what the UNet of a single file predicts ("epsilon", "v_prediction"), where the file
    does not say it and the guess is wrong. Nothing is run from the folder.
    """
    path = find(name)
    if path.is_file(): return _load_file(path, dtype, tokenizer, prediction)
    if prediction: raise BadInput(f"prediction is for single-file checkpoints, {path} says itself what it predicts")
    store.finish(path)
    index = read_json(path / "model_index.json")
    check_family(index, path)
    kind = next((k for k in NETS if k in index), None)
    if kind is None: raise BadInput(f"{path / 'model_index.json'} names none of the networks that are supported ({', '.join(NETS)})")
    seen = Seen(path, index.get("_sha256", {}), variant)
    process, defaults = _scheduling(path, index) if kind not in (*JUDGES, "mlp") or "scheduler" in index else (None, {})
    config = read_json(path / kind / "config.json")
    net = _net(kind, config, seen.weights(kind), path / kind, dtype)
    codec = read_vae(seen, dtype, config) if "vae" in index else codecs.from_config(read_json(path / "codec" / "config.json"))
    text = read_text(seen, dtype, tokenizer) if "text_encoder" in index else None
    words = _words(path / "words" / "config.json") if "words" in index else None
    folder = Folder(index.get("_name", path.resolve().name), net, kind, codec, words, process, defaults, seen.digest(), path, text)
    return _fits(folder)


def _load_file(path: Path, dtype: torch.dtype, tokenizer: str | os.PathLike | None, prediction: str | None) -> Folder:
    """A single-file checkpoint of Stable Diffusion in the original layout."""
    found = tokenizer or next((p for p in (path.parent / "tokenizer", path.with_suffix("") / "tokenizer") if p.is_dir()), None)
    from unnoise.hub import original

    head = weights.header(path)
    parts = original.convert(weights.read(path), head.metadata, prediction)
    if found is None:
        raise BadInput(f"{path} is a single-file checkpoint, which has no tokenizer: put the model's tokenizer folder (vocab.json and "
                       f"merges.txt) beside it as {path.parent / 'tokenizer'}, or name it with tokenizer=")
    sampling = schedulers.read(parts.scheduler, latents=True)
    net = _net("unet", parts.unet.config, parts.unet.weights, path, dtype)
    codec = _latents(parts.vae.config, parts.vae.weights, path, dtype, parts.unet.config)
    text = _encoder(parts.text_encoder.config, parts.text_encoder.weights, path, dtype, Path(found))
    return _fits(Folder(path.stem, net, "unet", codec, None, sampling.process, sampling.defaults, weights.sha256_of(path), path, text))


def check_family(index: dict, path: Path) -> None:
    """BadInput for a model of another family (SDXL, SD3, Flux, …), which it names."""
    family = index.get("_class_name")
    other = sorted(set(index) & {"text_encoder_2", "text_encoder_3", "transformer", "prior", "image_encoder_2", "vqvae", "movq"})
    other = [k for k in other if isinstance(index[k], list) and any(index[k])]
    if other or (isinstance(family, str) and family not in FAMILIES and "unnoise" not in str(index.get("_unnoise_version", ""))):
        raise BadInput(f"{path} holds a {family}{f' with {other[0]}' if other else ''}, which is not supported (supported: Stable Diffusion 1.x "
                       f"and 2.x in one of {', '.join(FAMILIES)})")


class Seen:
    """Reads the weight files of a folder, and remembers what was read for the model's hash."""

    def __init__(self, path: Path, sha256: dict[str, str], variant: str | None):
        self.path, self.known, self.variant, self.read = path, sha256, variant, {}
        for name, expected in sha256.items():
            if not name.endswith(".safetensors"): self._check(name, expected)

    def _check(self, name: str, expected: str) -> None:
        file = self.path / name
        try: found = hashlib.sha256(file.read_bytes()).hexdigest()
        except FileNotFoundError: raise BadInput(f"{file} is missing") from None
        except OSError as e: raise BadInput(f"cannot read {file}: {e.strerror}") from e
        if found != expected: raise BadInput(f"{file} is damaged or was changed: its sha256 is not the one recorded in "
                                             "model_index.json (take its entry out of _sha256 there if the change was meant)")

    def weights(self, part: str) -> dict[str, Tensor]:
        """The tensors of a part, from one file or from its shards."""
        out: dict[str, Tensor] = {}
        for file in weight_files(self.path / part, self.variant):
            name = f"{part}/{file.name}"
            out |= weights.read(file, self.known.get(name))
            self.read[name] = weights.sha256_of(file)
        return out

    def digest(self) -> str:
        """One hash of all that determines the pictures: weights, configs, tokenizer."""
        small = sorted(p for k in (*NETS, "vae", "text_encoder", "tokenizer", "codec", "words", "scheduler")
                       for p in (self.path / k).glob("*") if p.suffix in (".json", ".txt") and not p.name.endswith(".index.json"))
        known = self.read | {str(p.relative_to(self.path)): hashlib.sha256(p.read_bytes()).hexdigest() for p in small}
        return hashlib.sha256(json.dumps(sorted(known.items())).encode()).hexdigest()


def weight_files(folder: Path, variant: str | None = None) -> list[Path]:
    """The safetensors files of a part: one, or the shards that its index names. BadInput says what there is instead."""
    for stem in ("diffusion_pytorch_model", "model"):
        dotted = f".{variant}" if variant else ""
        if (one := folder / f"{stem}{dotted}.safetensors").exists(): return [one]
        for index in (folder / f"{stem}.safetensors.index{dotted}.json", folder / f"{stem}{dotted}.safetensors.index.json"):
            if index.exists(): return _shards(index)
    named = {re.sub(r"-\d+-of-\d+$", "", p.name.split(".")[1]) for p in folder.glob("*.*.safetensors")}
    others = sorted(named - {"safetensors", "non_ema"})
    if variant: raise BadInput(f"{folder} has no weights of variant {variant!r} (there are: {', '.join(others) or 'none with a variant'})")
    if len(others) == 1: return weight_files(folder, others[0])
    pickles = sorted(p.name for p in folder.glob("*") if p.suffix in (".bin", ".ckpt", ".pt", ".pth"))
    also = f" ({pickles[0]} is there, a pickle: those are never opened)" if pickles else ""
    raise BadInput(f"{folder / ('model.safetensors' if folder.name == 'text_encoder' else WEIGHTS)} is missing{also}")


def _shards(index: Path) -> list[Path]:
    names = read_json(index).get("weight_map")
    if not isinstance(names, dict) or not names or not all(isinstance(n, str) for n in names.values()):
        raise BadInput(f"{index} must map tensors to files under 'weight_map'")
    files = sorted(set(names.values()))
    for n in files:
        if "/" in n or "\\" in n or not n.endswith(".safetensors"): raise BadInput(f"{index}: {n!r} is not a safetensors file beside it")
    return [index.parent / n for n in files]


def _scheduling(path: Path, index: dict) -> tuple[ProcessSection, dict]:
    """The process, and the defaults: what the folder's own section says, else what its published scheduler does."""
    file = path / "scheduler" / "scheduler_config.json"
    config = read_json(file)
    try: found = schedulers.read(config, latents="vae" in index)
    except BadInput as e: raise BadInput(f"{file}: {e}") from None
    return found.process, {**found.defaults, **index.get("_defaults", {})}


def _words(path: Path) -> Words:
    words = read_json(path).get("words")
    if not isinstance(words, list) or not all(isinstance(w, str) for w in words): raise BadInput(f"{path}: 'words' must be a list of texts")
    return Words(tuple(words))


def read_vae(seen: Seen, dtype: torch.dtype, unet: dict) -> Latents:
    folder = seen.path / "vae"
    return _latents(read_json(folder / "config.json"), seen.weights("vae"), folder, dtype, unet)


def _latents(config: dict, tensors: dict[str, Tensor], where: Path, dtype: torch.dtype, unet: dict) -> Latents:
    """The codec of a latent model: its autoencoder, at the size that the UNet was trained for."""
    net = filled(lambda: Autoencoder(autoencoder_config_from(_public(config))), legacy_keys(tensors), where, dtype)
    c, f = net.config, net.config.factor
    size = unet.get("sample_size") or (c.sample_size // f if isinstance(c.sample_size, int) else 64)
    h, w = (size, size) if isinstance(size, int) else size
    return Latents.of(net, h * f, w * f)


def read_text(seen: Seen, dtype: torch.dtype, tokenizer: str | os.PathLike | None) -> PromptEncoder:
    folder = seen.path / "text_encoder"
    return _encoder(read_json(folder / "config.json"), seen.weights("text_encoder"), folder, dtype, Path(tokenizer or seen.path / "tokenizer"))


def _encoder(config: dict, tensors: dict[str, Tensor], where: Path, dtype: torch.dtype, tokenizer: Path) -> PromptEncoder:
    """Tokenizer and text encoder as one, checked to fit each other."""
    from unnoise.nets import clip
    from unnoise.text.encode import PromptEncoder
    from unnoise.text.tokenizer import Tokenizer

    tensors = clip.published_keys(tensors)
    make = lambda: clip.TextEncoder(clip.text_config_from(_public(config)), projection="text_projection.weight" in tensors)
    return PromptEncoder(Tokenizer.load(tokenizer), filled(make, tensors, where, dtype))


def _public(config: dict) -> dict:
    return {k: v for k, v in config.items() if not k.startswith("_")}


def _net(kind: str, config: dict, tensors: dict[str, Tensor], where: Path, dtype: torch.dtype) -> nn.Module:
    config = _public(config)
    makers: dict[str, Callable[[], nn.Module]] = {"unet": lambda: UNet(config_from(config)), "mlp": lambda: MLP(MLPConfig(**config)),
                                                  "classifier": lambda: Classifier(ClassifierConfig(**config)),
                                                  "recogniser": lambda: Recogniser(RecogniserConfig(**config))}
    return filled(makers[kind], tensors, where, dtype)


def filled(make: Callable[[], Net], tensors: dict[str, Tensor], where: Path, dtype: torch.dtype) -> Net:
    """A network with the weights of a file: checked tensor by tensor; those of a mapped file stay views of it."""
    try:
        with torch.device("meta"), _Unset(): net = make()
    except BadInput as e: raise BadInput(f"{where / 'config.json' if where.is_dir() else where}: {e}") from None
    except (ValueError, TypeError) as e: raise BadInput(f"{where / 'config.json'}: {' '.join(str(e).split()[:20])}") from None
    _check(net, tensors, where)
    net.load_state_dict(tensors, assign=True)
    net.eval().requires_grad_(False)
    return net if any(weights.mapped(t) for t in net.parameters()) else net.to(dtype)


class _Unset(TorchFunctionMode):
    """Leaves out the initial values of networks that are about to be filled. (On the meta device PyTorch would load its compiler for them.)"""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if getattr(func, "__module__", "") == "torch.nn.init": return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)


def _check(net: nn.Module, tensors: dict[str, Tensor], where: Path) -> None:
    own = net.state_dict()
    for k, v in own.items():
        if k not in tensors: raise BadInput(f"{where}: tensor {k!r} is missing")
        if tensors[k].shape != v.shape:
            raise BadInput(f"{where}: tensor {k!r} has shape {tuple(tensors[k].shape)}, the config asks for {tuple(v.shape)}")
        if tensors[k].is_floating_point() != v.is_floating_point(): raise BadInput(f"{where}: tensor {k!r} holds {tensors[k].dtype}")
    extra = sorted(set(tensors) - set(own))
    if extra: raise BadInput(f"{where}: tensor {extra[0]!r} is not part of this network ({len(extra)} such)")


def _fits(f: Folder) -> Folder:
    """The folder, once its parts are known to fit each other."""
    where = f.path or f.name
    if isinstance(f.net, UNet):
        cross = any("CrossAttn" in k for k in (*f.net.config.down_block_types, f.net.config.mid_block_type or ""))
        if f.text and cross and f.net.config.cross_attention_dim != (width := f.text.net.config.hidden_size):
            raise BadInput(f"{where}: text_encoder has width {width}, the UNet attends to {f.net.config.cross_attention_dim}")
        if cross and not f.text: raise BadInput(f"{where}: the UNet attends to a prompt, but the model has no text_encoder")
        if isinstance(f.codec, Latents) and f.net.config.out_channels != (c := f.codec.net.config.latent_channels):
            raise BadInput(f"{where}: the UNet makes {f.net.config.out_channels} latent channels, the autoencoder has {c}")
    return f


# --- writing --------------------------------------------------------------------------------------------------------------

def save(folder: str | os.PathLike, *, name: str, kind: str, net: nn.Module, weights: dict[str, Tensor] | None, codec: codecs.Codec,
         words: Words | None, process: ProcessSection | None, defaults: dict | None = None, card: str = "",
         dtype: torch.dtype | None = None, text: PromptEncoder | None = None, clip: CLIP | None = None, known: Known | None = None) -> Path:
    """Write a model folder; in one that is there only the model's own files are replaced (`hub.store`). Returns its path.

    weights: None for the net's own. clip: the CLIP whose text encoder `text` is; its image encoder and what joins the two are kept
    with the model. BadInput: the folder exists and is not a model folder, cannot be written, or the weights are not finite.
    """
    folder = store.model_folder(folder)
    latent = isinstance(codec, Latents)
    published = kind == "unet" and latent and text is not None
    index: dict[str, Any] = {"_class_name": "StableDiffusionPipeline" if published else "UnnoisePipeline",
                             "_unnoise_version": unnoise.__version__, "_name": name, kind: TWINS[kind]}
    if published: index |= {"_diffusers_version": "0.35.0", "requires_safety_checker": False,
                            **{k: [None, None] for k in ("safety_checker", "feature_extractor", "image_encoder")}}
    files: dict[str, Content] = weights_and_config(f"{kind}/{WEIGHTS}", weights or net.state_dict(), _net_config(kind, net), dtype)
    if isinstance(codec, Latents):
        index["vae"] = TWINS["vae"]
        files |= weights_and_config(f"vae/{WEIGHTS}", codec.net.state_dict(), vae_config(codec), dtype)
    else:
        index["codec"] = ["unnoise", type(codec).__name__]
        files["codec/config.json"] = _json(codec.config())
    if text:
        projected = "text_projection.weight" in text.net.state_dict()
        index["text_encoder"] = ["transformers", "CLIPTextModelWithProjection" if projected else "CLIPTextModel"]
        index["tokenizer"] = TWINS["tokenizer"]
        files |= weights_and_config("text_encoder/model.safetensors", text.net.state_dict(), _text_config(text.net, projected), dtype)
        files["tokenizer"] = text.tokenizer.save
    if clip:
        from unnoise.hub import parts

        index |= parts.CLIP_INDEX
        files |= parts.clip_files(clip, dtype, text.net if text else None)
    if words:
        index["words"] = ["unnoise", "Words"]
        files["words/config.json"] = _json(words.config())
    if process:
        config = schedulers.write(process, defaults or {})
        index["scheduler"] = ["unnoise" if config["_class_name"].startswith("Unnoise") else "diffusers", config["_class_name"]]
        files["scheduler/scheduler_config.json"] = _json(config)
    if defaults: index["_defaults"] = defaults
    if known: files[FILE] = known.content()
    if card: files["README.md"] = card.encode()
    return store.write_folder(folder, files, index)


def weights_and_config(file: str, tensors: dict[str, Tensor], config: dict, dtype: torch.dtype | None) -> dict[str, Content]:
    for k, v in tensors.items():
        if v.is_floating_point() and not torch.isfinite(v).all(): raise BadInput(f"refusing to save {file}: tensor {k!r} is not finite")
    def write(path: Path) -> None:
        cast = {k: (v.to(dtype) if dtype and v.is_floating_point() else v).detach().cpu().contiguous() for k, v in tensors.items()}
        for k, v in cast.items():
            if dtype and v.is_floating_point() and not torch.isfinite(v).all():
                raise BadInput(f"refusing to save {file}: tensor {k!r} has values beyond {str(dtype).removeprefix('torch.')}")
        save_file(cast, path, metadata={"format": "pt"})
    return {file: write, f"{file.split('/')[0]}/config.json": _json(config)}


def _json(d: dict) -> bytes:
    return json.dumps(d, indent=2).encode() + b"\n"


def config_of(net: Any) -> dict:
    return json.loads(net.config.model_dump_json())


def _net_config(kind: str, net: nn.Module) -> dict:
    d = config_of(net)
    if kind == "unet":
        d = {"_class_name": "UNet2DConditionModel", "_diffusers_version": "0.35.0", **d}
        if d["time"]: del d["time"]  # diffusers knows no nets without it
    return d


def vae_config(codec: Latents) -> dict:
    return {"_class_name": "AutoencoderKL", "_diffusers_version": "0.35.0", **config_of(codec.net), "scaling_factor": codec.scale,
            "shift_factor": codec.shift or None}


def _text_config(net: nn.Module, projected: bool) -> dict:
    return {"architectures": ["CLIPTextModelWithProjection" if projected else "CLIPTextModel"], "model_type": "clip_text_model", **config_of(net)}


def save_run(run, weights: dict[str, Tensor], folder: Path) -> Path:
    """The model folder of a finished training run."""
    from unnoise.text.encode import PromptEncoder

    recipe, src, net, text = run.recipe, run.source, run.net, getattr(run.source, "text", None)
    if recipe.train.text and text:
        (weights, reads), net = net.parted(weights), net.net
        text = PromptEncoder(text.tokenizer, reads)
    words = Words(tuple(src.words)) if src.labels is not None else None
    process = recipe.process if recipe.task == "denoise" or recipe.net.get("time") else None  # of noise that a classifier knows
    defaults: dict = {"upscale": {"factor": recipe.data.low, "noise": recipe.data.low_noise}} if recipe.data.low else {}
    if recipe.data.masked: defaults["masked"] = "cells"
    taught = getattr(src, "known", None)
    return save(folder, name=recipe.name, kind=recipe.net["kind"], net=net, weights=weights, codec=src.codec, words=words,
                process=process, defaults=defaults, text=text, known=taught() if taught else None)
