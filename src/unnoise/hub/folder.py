"""Model folders in and out: the published layout, safetensors only, checked before anything of it is used.

    model_index.json                         the parts, and the sha256 of every file
    unet/  (or mlp/, classifier/)            config.json + diffusion_pytorch_model.safetensors
    vae/                                     the same; or codec/config.json, ours, for models of pixels and
                                             vectors
    text_encoder/, tokenizer/                config.json + model.safetensors; vocab.json + merges.txt; or
                                             words/config.json, ours
    scheduler/scheduler_config.json          the schedule and prediction type in diffusers' keys, ours under
                                             "_unnoise"
    README.md                                the card

A weight file may carry a variant (`….fp16.safetensors`) or be cut into shards (`….safetensors.index.json`). A
single-file checkpoint in the original layout of Stable Diffusion opens too (`hub.original`); it has no
tokenizer: one beside it is used.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from unnoise import codec as codecs
from unnoise.base import read
from unnoise.base.errors import BadInput, unknown
from unnoise.base.text import one_line, short
from unnoise.base.version import VERSION
from unnoise.codec import Latents
from unnoise.hub import leftovers, schedulers, store, weights
from unnoise.hub.index import Shards, read_index
from unnoise.hub.store import Content
from unnoise.nets.autoencoder import Autoencoder, autoencoder_config_from, legacy_keys
from unnoise.nets.classifier import Classifier, ClassifierConfig
from unnoise.nets.mlp import MLP, MLPConfig
from unnoise.nets.recogniser import Recogniser, RecogniserConfig
from unnoise.nets.unet import UNet, config_from
from unnoise.process.section import ProcessSection
from unnoise.text.known import FILE, Known
from unnoise.text.words import Words, WordsFile

if TYPE_CHECKING:
    from unnoise.nets.clip import CLIP
    from unnoise.text.encode import PromptEncoder

WEIGHTS = "diffusion_pytorch_model.safetensors"
BUNDLED = Path(__file__).parent.parent / "models"
NETS = ("unet", "mlp", "classifier", "recogniser")
JUDGES = ("classifier", "recogniser")  # these look at pictures and make none
TWINS = {
    "unet": ["diffusers", "UNet2DConditionModel"],
    "mlp": ["unnoise", "MLP"],
    "classifier": ["unnoise", "Classifier"],
    "recogniser": ["unnoise", "Recogniser"],
    "vae": ["diffusers", "AutoencoderKL"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
}
FAMILIES = (
    "StableDiffusionPipeline",
    "StableDiffusionImg2ImgPipeline",
    "StableDiffusionInpaintPipeline",
    "UnnoisePipeline",
)


Net = TypeVar("Net", bound=nn.Module)


@dataclass(frozen=True)
class Folder:
    """What a model folder holds, loaded and checked. Large nets keep the number type of their file and lie in
    a map of it.
    """

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
    left_out: dict[str, dict[str, str]] = field(
        default_factory=dict
    )  # of each part: tensors that nothing reads, and why
    notes: tuple[str, ...] = ()  # what was guessed, or is only near to what the files ask for


@dataclass(frozen=True)
class Stored:
    """The weights of a part: what their headers say, and how to get them."""

    shapes: dict[str, Tensor]  # on the meta device
    load: Callable[[], dict[str, Tensor]]
    suspect: list[str] = field(
        default_factory=list
    )  # once they are loaded: which of their files' tensors are not finite

    @classmethod
    def of(cls, tensors: dict[str, Tensor], suspect: list[str] | None = None) -> Stored:
        """Of tensors that are there already."""
        return cls({k: v.to("meta") for k, v in tensors.items()}, lambda: tensors, suspect or [])


# --- reading ------------------------------------------------------------------------------------------------


def find(name: str | os.PathLike) -> Path:
    """Where a model lies: a local folder or checkpoint file, a bundled name, or a hub id that was fetched.
    BadInput names these.
    """
    given, path = os.fspath(name), Path(name)
    if given and os.path.isdir(path):
        return path
    if given in bundled():
        return BUNDLED / given
    if os.path.isfile(path):
        return path
    if os.path.lexists(path):
        raise BadInput(
            f"{path} is neither a folder nor a file that can be read (a broken link?): give a model folder"
        )
    from unnoise.hub import fetch

    if fetched := fetch.local(given):
        return fetched
    if given.count("/") == 1 and not given.startswith((".", "/", "~")):
        raise BadInput(
            f"model {short(given, 200)} is neither a folder nor fetched: unnoise fetch {one_line(given, 200)}"
            f" gets it (bundled: {', '.join(bundled())})"
        )
    raise unknown(
        "model",
        name,
        [*bundled(), "a model folder", "a .safetensors checkpoint", "owner/model, once fetched"],
    )


def bundled() -> list[str]:
    """The names of the models that come with the package."""
    return sorted(p.parent.name for p in BUNDLED.glob("*/model_index.json"))


read_json = read.object_file


def model_of(path: Path) -> Path:
    """The model folder: `path`, or the one above where `path` is the folder of one of its parts."""
    above = path.absolute().parent
    alone = not os.path.lexists(path / "model_index.json") and os.path.isfile(path / "config.json")
    if alone and os.path.isfile(above / "model_index.json") and path.absolute().name in read_index(above):
        return above
    return path


@torch.inference_mode(False)
def load(
    name: str | os.PathLike,
    dtype: torch.dtype = torch.float32,
    variant: str | None = None,
    tokenizer: str | os.PathLike | None = None,
    prediction: str | None = None,
    vae: str | os.PathLike | None = None,
) -> Folder:
    """Load and check a model folder or checkpoint file. BadInput names the file that is missing, broken or
    does not fit.

    variant: of the weight files ("fp16"); None takes the plain ones, or the only variant there is. tokenizer:
    the folder of one, instead of the model's own. prediction: what the UNet of a single file predicts
    ("epsilon", "v_prediction"), where the file does not say it and the guess is wrong. vae: another
    autoencoder than the model's (see `other_vae`). The folder of one part stands for the model that it lies
    in. Nothing is run from the folder, and what a config asks for is compared with its weights' headers
    before any memory is taken for it.
    """
    path = find(name)
    if os.path.isfile(path):
        return _load_file(path, dtype, tokenizer, prediction, vae)
    if prediction:
        raise BadInput(f"prediction is for single-file checkpoints, {path} says itself what it predicts")
    path = model_of(path)
    store.finish(path)
    index = read_index(path)
    check_family(index, path)
    kind = next((k for k in NETS if k in index), None)
    if kind is None:
        raise BadInput(
            f"{path / 'model_index.json'} names none of the networks that are supported ({', '.join(NETS)})"
        )
    seen = Seen(path, index.get("_sha256", {}), variant)
    sampling = _scheduling(path, index) if kind not in (*JUDGES, "mlp") or "scheduler" in index else None
    config = read_json(path / kind / "config.json")
    net = _net(kind, config, seen.stored(kind), path / kind, dtype, seen.left_out)
    if vae is not None:
        codec, more = other_vae(vae, dtype, config)
    else:
        codec, more = _codec(seen, index, dtype, config), ""
    text = read_text(seen, dtype, tokenizer) if "text_encoder" in index else None
    words = _words(path / "words" / "config.json") if "words" in index else None
    process, defaults, notes = (
        (sampling.process, sampling.defaults, sampling.notes) if sampling else (None, {}, ())
    )
    return _fits(
        Folder(
            index.get("_name") or path.resolve().name,
            net,
            kind,
            codec,
            words,
            process,
            defaults,
            seen.digest(index, more),
            path,
            text,
            seen.left_out,
            notes,
        )
    )


def _codec(seen: Seen, index: dict, dtype: torch.dtype, config: dict) -> codecs.Codec:
    if "vae" in index:
        return read_vae(seen, dtype, config)
    file = seen.path / "codec" / "config.json"
    return codecs.from_config(read_json(file), str(file))


def _load_file(
    path: Path,
    dtype: torch.dtype,
    tokenizer: str | os.PathLike | None,
    prediction: str | None,
    vae: str | os.PathLike | None,
) -> Folder:
    """A single-file checkpoint of Stable Diffusion in the original layout."""
    found = tokenizer or next(
        (p for p in (path.parent / "tokenizer", path.with_suffix("") / "tokenizer") if p.is_dir()), None
    )
    from unnoise.hub import original

    head = weights.header(path)
    original.convert(
        weights.shapes(head), head.metadata, prediction, own_vae=vae is None
    )  # says what is wrong before anything is read
    if found is None:
        raise BadInput(
            f"{path} is a single-file checkpoint, which has no tokenizer: put the model's tokenizer folder"
            f" (vocab.json and merges.txt) beside it as {path.parent / 'tokenizer'}, or name it with"
            " tokenizer="
        )
    parts = original.convert(weights.opened(path), head.metadata, prediction, own_vae=vae is None)
    sampling, left, more = (
        schedulers.read(parts.scheduler, latents=True),
        {"checkpoint": dict(parts.left_out)},
        "",
    )
    bad = weights.examine(path).bad
    net = _net("unet", parts.unet.config, Stored.of(parts.unet.weights, bad), path, dtype, left)
    if vae is not None:
        codec, more = other_vae(vae, dtype, parts.unet.config)
    else:
        assert parts.vae is not None
        codec = _latents(
            parts.vae.config, Stored.of(parts.vae.weights, bad), path, dtype, parts.unet.config, left
        )
    text = _encoder(
        parts.text_encoder.config, Stored.of(parts.text_encoder.weights, bad), path, dtype, Path(found), left
    )
    digest = _digest({"": weights.sha256_of(path)}, more) if more else weights.sha256_of(path)
    return _fits(
        Folder(
            path.stem,
            net,
            "unet",
            codec,
            None,
            sampling.process,
            sampling.defaults,
            digest,
            path,
            text,
            {k: v for k, v in left.items() if v},
            (*parts.notes, *sampling.notes),
        )
    )


def other_vae(given: str | os.PathLike, dtype: torch.dtype, unet: dict) -> tuple[Latents, str]:
    """(the codec, its digest) of an autoencoder of its own: of a model folder, in a folder alone, or in a
    single file in the original layout (whole or alone). BadInput: none of these."""
    from unnoise.hub import original

    path = find(given)
    if os.path.isfile(path):
        part = original.autoencoder(weights.shapes(weights.header(path)))
        part = original.Part(part.config, original.autoencoder(weights.opened(path)).weights)
        return _latents(
            part.config, Stored.of(part.weights, weights.examine(path).bad), path, dtype, unet, {}
        ), weights.sha256_of(path)
    inner = path / "vae" if os.path.isdir(path / "vae") else path
    if not os.path.isfile(inner / "config.json"):
        raise BadInput(
            f"{path} holds no autoencoder: a model folder with a vae/, the folder of one, or a .safetensors"
            " file is accepted"
        )
    seen = Seen(inner.parent, {}, None)
    codec = _latents(read_json(inner / "config.json"), seen.stored(inner.name), inner, dtype, unet, {})
    return codec, _digest(seen.read, "")


def check_family(index: dict, path: Path) -> None:
    """BadInput for a model of another family (SDXL, SD3, Flux, …), which it names."""
    family = index.get("_class_name")
    other = sorted(
        set(index)
        & {"text_encoder_2", "text_encoder_3", "transformer", "prior", "image_encoder_2", "vqvae", "movq"}
    )
    other = [k for k in other if isinstance(index[k], list) and any(index[k])]
    if other or (
        isinstance(family, str)
        and family not in FAMILIES
        and "unnoise" not in str(index.get("_unnoise_version", ""))
    ):
        raise BadInput(
            f"{path} holds a {family}{f' with {other[0]}' if other else ''}, which is not supported"
            f" (supported: Stable Diffusion 1.x and 2.x in one of {', '.join(FAMILIES)})"
        )


class Seen:
    """Reads the weight files of a folder, and remembers what was read for the model's hash."""

    def __init__(self, path: Path, sha256: dict[str, str], variant: str | None):
        self.path, self.known, self.variant, self.read, self.left_out = path, sha256, variant, {}, {}
        for name, expected in sha256.items():
            if not name.endswith(".safetensors"):
                self._check(name, expected)

    def _check(self, name: str, expected: str) -> None:
        file = self.path / name
        if hashlib.sha256(read.content(file)).hexdigest() != expected:
            raise BadInput(
                f"{file} is damaged or was changed: its sha256 is not the one recorded in "
                "model_index.json (take its entry out of _sha256 there if the change was meant)"
            )

    def stored(self, part: str) -> Stored:
        """The weights of a part, from one file or from its shards: their shapes now, themselves when they are
        loaded.
        """
        files = weight_files(self.path / part, self.variant)
        heads = {f: weights.header(f) for f in files}
        shapes = {k: v for head in heads.values() for k, v in weights.shapes(head).items()}
        kept, left = leftovers.tidied(shapes)
        if left:
            self.left_out.setdefault(part, {}).update(left)

        suspect: list[str] = []

        def load() -> dict[str, Tensor]:
            made: dict[str, Tensor] = {}
            for file in files:
                name = f"{part}/{file.name}"
                made |= weights.opened(file, self.known.get(name))
                facts = weights.examine(file)
                self.read[name] = facts.sha256
                suspect.extend(facts.bad)
            return weights.plain({new: made[old] for old, new in kept.items()})

        return Stored(weights.plain({new: shapes[old] for old, new in kept.items()}), load, suspect)

    def digest(self, index: dict, more: str = "") -> str:
        """One hash of all that determines the pictures: weights, configs, tokenizer of the parts that the
        index names.
        """
        parts = {*index, "tokenizer"} & {
            *NETS,
            "vae",
            "text_encoder",
            "tokenizer",
            "codec",
            "words",
            "scheduler",
        }
        small = sorted(
            p
            for k in sorted(parts)
            for p in (self.path / k).glob("*")
            if p.suffix in (".json", ".txt") and not p.name.endswith(".index.json") and p.is_file()
        )
        return _digest(
            self.read
            | {str(p.relative_to(self.path)): hashlib.sha256(read.content(p)).hexdigest() for p in small},
            more,
        )


def _digest(known: dict[str, str], more: str) -> str:
    told = json.dumps(sorted(known.items())) + more
    return hashlib.sha256(told.encode()).hexdigest()


def weight_files(folder: Path, variant: str | None = None) -> list[Path]:
    """The safetensors files of a part: one, the shards that its index names, or the only one there is,
    whatever it is called.

    BadInput says what there is instead.
    """
    for stem in ("diffusion_pytorch_model", "model"):
        dotted = f".{variant}" if variant else ""
        if os.path.lexists(one := folder / f"{stem}{dotted}.safetensors"):
            return [one]
        for index in (
            folder / f"{stem}.safetensors.index{dotted}.json",
            folder / f"{stem}{dotted}.safetensors.index.json",
        ):
            if os.path.lexists(index):
                return _shards(index)
    there = sorted(
        p for p in folder.glob("*") if p.suffix.lower() == ".safetensors" and not p.name.startswith(".")
    )
    named = {re.sub(r"-\d+-of-\d+$", "", p.name.split(".")[1]) for p in there if p.name.count(".") == 2}
    others = sorted(named - {"non_ema"})
    if variant:
        raise BadInput(
            f"{folder} has no weights of variant {variant!r} (there are:"
            f" {', '.join(others) or 'none with a variant'})"
        )
    if len(there) == 1:
        return there  # a capital suffix, or the name that it was downloaded under
    if len(others) == 1:
        return weight_files(folder, others[0])
    raise BadInput(_no_weights(folder, there))


def _no_weights(folder: Path, there: list[Path]) -> str:
    file = folder / ("model.safetensors" if folder.name == "text_encoder" else WEIGHTS)
    if there:
        return (
            f"{file} is missing, and which of {', '.join(p.name for p in there)} to take is not told:"
            " rename it"
        )
    pickles = sorted(p.name for p in folder.glob("*") if p.suffix in (".bin", ".ckpt", ".pt", ".pth"))
    return f"{file} is missing" + (
        f" ({pickles[0]} is there, a pickle: those are never opened)" if pickles else ""
    )


def _shards(index: Path) -> list[Path]:
    names = read.fit(Shards, read_json(index), str(index)).weight_map
    return [index.parent / n for n in sorted(set(names.values()))]


def _scheduling(path: Path, index: dict) -> schedulers.Sampling:
    """The process, and the defaults: what the folder's own section says, else what its published scheduler
    does.
    """
    file = path / "scheduler" / "scheduler_config.json"
    config = read_json(file)
    latent = "vae" in index
    try:
        found = schedulers.read(config, latents=latent)
    except BadInput as e:
        raise BadInput(f"{file}: {e}") from None
    if latent and (note := schedulers.unsaid(config)):
        warnings.warn(f"{file}: {note}", stacklevel=4)
        found = replace(found, notes=(*found.notes, note))
    try:
        own = schedulers.checked(index.get("_defaults", {}), found.defaults)
    except BadInput as e:
        raise BadInput(f"{path / 'model_index.json'}: {e}") from None
    return replace(found, defaults={**found.defaults, **own})


def _words(path: Path) -> Words:
    return Words(tuple(read.fit(WordsFile, read_json(path), str(path)).words))


def read_vae(seen: Seen, dtype: torch.dtype, unet: dict) -> Latents:
    folder = seen.path / "vae"
    return _latents(read_json(folder / "config.json"), seen.stored("vae"), folder, dtype, unet, seen.left_out)


def _latents(
    config: dict, stored: Stored, where: Path, dtype: torch.dtype, unet: dict, left: dict
) -> Latents:
    """The codec of a latent model: its autoencoder, at the size that the UNet was trained for."""
    net = filled(
        lambda: Autoencoder(autoencoder_config_from(_public(config))),
        stored,
        where,
        dtype,
        legacy_keys,
        left,
        "vae",
    )
    c, f = net.config, net.config.factor
    size = unet.get("sample_size") or (c.sample_size // f if isinstance(c.sample_size, int) else 64)
    h, w = (size, size) if isinstance(size, int) else size
    try:
        return Latents.of(net, h * f, w * f)
    except BadInput as e:
        raise BadInput(f"{where}: {e} (from the UNet's sample_size {short(size)})") from None


def read_text(seen: Seen, dtype: torch.dtype, tokenizer: str | os.PathLike | None) -> PromptEncoder:
    folder = seen.path / "text_encoder"
    return _encoder(
        read_json(folder / "config.json"),
        seen.stored("text_encoder"),
        folder,
        dtype,
        Path(tokenizer or seen.path / "tokenizer"),
        seen.left_out,
    )


def _encoder(
    config: dict, stored: Stored, where: Path, dtype: torch.dtype, tokenizer: Path, left: dict
) -> PromptEncoder:
    """Tokenizer and text encoder as one, checked to fit each other."""
    from unnoise.nets import clip
    from unnoise.text.encode import PromptEncoder
    from unnoise.text.tokenizer import Tokenizer

    projected = "text_projection.weight" in stored.shapes
    make = lambda: clip.TextEncoder(clip.text_config_from(_public(config)), projection=projected)
    net = filled(make, stored, where, dtype, clip.published_keys, left, "text_encoder")
    return PromptEncoder(Tokenizer.load(tokenizer), net)


def _public(config: dict) -> dict:
    return {k: v for k, v in config.items() if not k.startswith("_")}


def _net(kind: str, config: dict, stored: Stored, where: Path, dtype: torch.dtype, left: dict) -> nn.Module:
    return filled(_makers(_public(config))[kind], stored, where, dtype, left=left, part=kind)


def _makers(config: dict) -> dict[str, Callable[[], nn.Module]]:
    file = "its config"
    return {
        "unet": lambda: UNet(config_from(config)),
        "mlp": lambda: MLP(read.fit(MLPConfig, config, file)),
        "classifier": lambda: Classifier(read.fit(ClassifierConfig, config, file)),
        "recogniser": lambda: Recogniser(read.fit(RecogniserConfig, config, file)),
    }


def filled(
    make: Callable[[], Net],
    stored: Stored,
    where: Path,
    dtype: torch.dtype,
    renamed: Callable[[dict[str, Tensor]], dict[str, Tensor]] = lambda d: d,
    left: dict | None = None,
    part: str = "",
) -> Net:
    """A network with the weights of a file. It is built without memory and compared with the file's header,
    tensor by tensor, first.

    renamed: from the names (and shapes) in files to the network's. left: what is not used goes there, under
    `part`. BadInput: a tensor is missing, has another shape, holds what is not finite or does not fit
    `dtype`.
    """
    net = _built(make, where)
    extra = _check(net, renamed(stored.shapes), where)
    if extra and left is not None:
        left.setdefault(part, {}).update(extra)
    own = net.state_dict()
    tensors = {k: v for k, v in renamed(stored.load()).items() if k in own}
    lossless = dtype in (torch.float32, torch.float64, torch.bfloat16) and all(
        v.dtype != torch.float64 for v in tensors.values()
    )
    if stored.suspect or not lossless:
        weights.check_finite(tensors, where, None if lossless else dtype)
    net.load_state_dict(tensors, assign=True)
    net.eval().requires_grad_(False)
    return net if any(weights.mapped(t) for t in net.parameters()) else net.to(dtype)


def left_out(path: Path, part: str, config: dict) -> dict[str, str]:
    """What lies in the weight files of a folder's part and is not read, with why; from headers. BadInput:
    they do not fit the config.
    """
    from unnoise.nets import clip

    seen = Seen(path, {}, None)
    stored, where = seen.stored(part), path / part
    renamed: Callable = {"vae": legacy_keys, "text_encoder": clip.published_keys}.get(part, lambda d: d)
    projected = "text_projection.weight" in stored.shapes
    config = _public(config)
    makers: dict[str, Callable[[], nn.Module]] = _makers(config) | {
        "vae": lambda: Autoencoder(autoencoder_config_from(config)),
        "text_encoder": lambda: clip.TextEncoder(clip.text_config_from(config), projection=projected),
    }
    extra = _check(_built(makers[part], where), renamed(stored.shapes), where)
    return {**seen.left_out.get(part, {}), **extra}


def _built(make: Callable[[], Net], where: Path) -> Net:
    file = where / "config.json" if os.path.isdir(where) else where
    try:
        with torch.device("meta"), _Unset():
            return make()
    except BadInput as e:
        raise BadInput(f"{file}: {e}") from None
    except Exception as e:  # torch's words on impossible sizes
        raise BadInput(f"{file}: no network can be built by it: {one_line(str(e), 200)}") from None


class _Unset(TorchFunctionMode):
    """Leaves out the initial values of networks that are about to be filled. (On the meta device PyTorch
    would load its compiler for them.)
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if getattr(func, "__module__", "") == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)


def _check(net: nn.Module, tensors: dict[str, Tensor], where: Path) -> dict[str, str]:
    """What of the tensors is left out, and why. BadInput: a tensor is missing, or does not fit the network
    that the config asks for.
    """
    own = net.state_dict()
    for k, v in own.items():
        if k not in tensors:
            raise BadInput(f"{where}: tensor {k!r} is missing")
        if tensors[k].shape != v.shape:
            raise BadInput(
                f"{where}: tensor {k!r} has shape {tuple(tensors[k].shape)}, the config asks for"
                f" {tuple(v.shape)}"
            )
        if tensors[k].is_floating_point() != v.is_floating_point():
            raise BadInput(f"{where}: tensor {k!r} holds {tensors[k].dtype}")
    left, wrong = leftovers.stray(set(tensors) - set(own), own)
    if wrong:
        raise BadInput(f"{where}: tensor {short(wrong[0])} is not part of this network ({len(wrong)} such)")
    return left


def _fits(f: Folder) -> Folder:
    """The folder, once its parts are known to fit each other."""
    where = f.path or f.name
    if isinstance(f.net, UNet):
        cross = any(
            "CrossAttn" in k for k in (*f.net.config.down_block_types, f.net.config.mid_block_type or "")
        )
        if f.text and cross and f.net.config.cross_attention_dim != (width := f.text.net.config.hidden_size):
            raise BadInput(
                f"{where}: text_encoder has width {width}, the UNet attends to"
                f" {f.net.config.cross_attention_dim}"
            )
        if cross and not f.text:
            raise BadInput(f"{where}: the UNet attends to a prompt, but the model has no text_encoder")
        channels = f.codec.shape(1)[1] if f.codec.autoencoder else f.net.config.out_channels
        if f.net.config.out_channels != channels:
            raise BadInput(
                f"{where}: the UNet makes {f.net.config.out_channels} latent channels, the autoencoder"
                f" has {channels}"
            )
    if f.codec.autoencoder is None:
        _check_codec(f)
    return f


def _check_codec(f: Folder) -> None:
    """BadInput where the codec's pictures are of another size than the network's: a size is a promise of
    memory.
    """
    config: Any = f.net.config
    shape = f.codec.shape(1)[1:]
    where = f"{f.path or f.name}: codec/config.json"
    if isinstance(f.net, MLP) and math.prod(shape) != config.size:
        raise BadInput(f"{where} makes {math.prod(shape)} numbers a sample, the network takes {config.size}")
    if isinstance(f.net, MLP):
        return
    if not codecs.is_of_pictures(f.codec):
        raise BadInput(f"{where} makes vectors, the network takes pictures")
    takes = config.out_channels if isinstance(f.net, UNet) else config.channels
    if shape[0] != takes:
        raise BadInput(f"{where} makes pictures of {shape[0]} channels, the network has {takes}")
    size = config.sample_size if isinstance(f.net, UNet) else None
    if size is not None and tuple(shape[1:]) != ((size, size) if isinstance(size, int) else tuple(size)):
        raise BadInput(
            f"{where} makes pictures of {shape[1]} x {shape[2]} for the network, its sample_size is"
            f" {short(size)}"
        )


# --- writing ------------------------------------------------------------------------------------------------


def save(
    folder: str | os.PathLike,
    *,
    name: str,
    kind: str,
    net: nn.Module,
    weights: dict[str, Tensor] | None,
    codec: codecs.Codec,
    words: Words | None,
    process: ProcessSection | None,
    defaults: dict | None = None,
    card: str = "",
    dtype: torch.dtype | None = None,
    text: PromptEncoder | None = None,
    clip: CLIP | None = None,
    known: Known | None = None,
) -> Path:
    """Write a model folder; in one that is there only the model's own files are replaced (`hub.store`).
    Returns its path.

    weights: None for the net's own. clip: the CLIP whose text encoder `text` is; its image encoder and what
    joins the two are kept with the model. BadInput: the folder exists and is not a model folder, cannot be
    written, or the weights are not finite.
    """
    folder = store.model_folder(folder)
    published = kind == "unet" and codec.autoencoder is not None and text is not None
    index: dict[str, Any] = {
        "_class_name": "StableDiffusionPipeline" if published else "UnnoisePipeline",
        "_unnoise_version": VERSION,
        "_name": name,
        kind: TWINS[kind],
    }
    if published:
        index |= {
            "_diffusers_version": "0.35.0",
            "requires_safety_checker": False,
            **{k: [None, None] for k in ("safety_checker", "feature_extractor", "image_encoder")},
        }
    files: dict[str, Content] = weights_and_config(
        f"{kind}/{WEIGHTS}", weights or net.state_dict(), _net_config(kind, net), dtype
    )
    if codec.autoencoder is not None:
        index["vae"] = TWINS["vae"]
        tensors = codec.autoencoder.state_dict()
        files |= weights_and_config(f"vae/{WEIGHTS}", tensors, vae_config(codec), dtype)
    else:
        index["codec"] = ["unnoise", type(codec).__name__]
        files["codec/config.json"] = _json(codec.config())
    if text:
        projected = "text_projection.weight" in text.net.state_dict()
        index["text_encoder"] = [
            "transformers",
            "CLIPTextModelWithProjection" if projected else "CLIPTextModel",
        ]
        index["tokenizer"] = TWINS["tokenizer"]
        files |= weights_and_config(
            "text_encoder/model.safetensors", text.net.state_dict(), _text_config(text.net, projected), dtype
        )
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
        index["scheduler"] = [
            "unnoise" if config["_class_name"].startswith("Unnoise") else "diffusers",
            config["_class_name"],
        ]
        files["scheduler/scheduler_config.json"] = _json(config)
    if defaults:
        index["_defaults"] = defaults
    if known:
        files[FILE] = known.content()
    if card:
        files["README.md"] = card.encode()
    return store.write_folder(folder, files, index)


def weights_and_config(
    file: str, tensors: dict[str, Tensor], config: dict, dtype: torch.dtype | None
) -> dict[str, Content]:
    for k, v in tensors.items():
        if v.is_floating_point() and not torch.isfinite(v).all():
            raise BadInput(f"refusing to save {file}: tensor {k!r} is not finite")

    def write(path: Path) -> None:
        cast = {
            k: (v.to(dtype) if dtype and v.is_floating_point() else v).detach().cpu().contiguous()
            for k, v in tensors.items()
        }
        for k, v in cast.items():
            if dtype and v.is_floating_point() and not torch.isfinite(v).all():
                raise BadInput(
                    f"refusing to save {file}: tensor {k!r} has values beyond"
                    f" {str(dtype).removeprefix('torch.')}"
                )
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
        if d["time"]:
            del d["time"]  # diffusers knows no nets without it
    return d


def vae_config(codec: codecs.Codec) -> dict:
    """What a published autoencoder's file says, of a codec that has one."""
    said = codec.config()
    return {
        "_class_name": "AutoencoderKL",
        "_diffusers_version": "0.35.0",
        **config_of(codec.autoencoder),
        "scaling_factor": said["scale"],
        "shift_factor": said["shift"] or None,
    }


def _text_config(net: nn.Module, projected: bool) -> dict:
    return {
        "architectures": ["CLIPTextModelWithProjection" if projected else "CLIPTextModel"],
        "model_type": "clip_text_model",
        **config_of(net),
    }


def save_run(run, weights: dict[str, Tensor], folder: Path) -> Path:
    """The model folder of a finished training run."""
    from unnoise.text.encode import PromptEncoder

    recipe, src, net, text = run.recipe, run.source, run.net, getattr(run.source, "text", None)
    if recipe.train.text and text:
        (weights, reads), net = net.parted(weights), net.net
        text = PromptEncoder(text.tokenizer, reads)
    words = Words(tuple(src.words)) if src.labels is not None else None
    process = (
        recipe.process if recipe.task == "denoise" or recipe.net.get("time") else None
    )  # of noise that a classifier knows
    defaults: dict = (
        {"upscale": {"factor": recipe.data.low, "noise": recipe.data.low_noise}} if recipe.data.low else {}
    )
    if recipe.data.masked:
        defaults["masked"] = "cells"
    taught = getattr(src, "known", None)
    return save(
        folder,
        name=recipe.name,
        kind=recipe.net["kind"],
        net=net,
        weights=weights,
        codec=src.codec,
        words=words,
        process=process,
        defaults=defaults,
        text=text,
        known=taught() if taught else None,
    )
