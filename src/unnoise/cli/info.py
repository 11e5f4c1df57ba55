"""`unnoise info`: what a model is made of, from its configurations and the headers of its weight files; no
net is built.

A folder (bundled, local, or fetched by owner/model) is described by component, a single .safetensors file by
the parts that its tensors' names show. A file that is missing, damaged or does not fit the others is named,
with exit 2.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unnoise.base.errors import BadInput
from unnoise.cli.common import emit

if TYPE_CHECKING:
    from unnoise.hub.weights import TensorInfo

PLAIN = ("codec", "words", "tokenizer", "scheduler")  # components that are configurations alone
_PREFIXES = {
    "model.diffusion_model": "unet",
    "first_stage_model": "vae",
    "cond_stage_model": "text_encoder",
    "model_ema": "unet (EMA)",
}
_FLOATS = ("F64", "F32", "F16", "BF16")
_FORMATS = (".safetensors", ".bin", ".ckpt", ".pt", ".msgpack", ".onnx")
_LICENCE = re.compile(r"^\|\s*licence of the weights\s*\|\s*(.+?)\s*\|", re.M)


def info(
    what: Annotated[
        str,
        typer.Argument(
            metavar="FOLDER|NAME|FILE",
            help="A model folder, a bundled name, a fetched owner/model, or a .safetensors file.",
        ),
    ],
    no_hash: Annotated[
        bool, typer.Option("--no-hash", help="Read headers only: no sha256, no check against the manifest.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Say what a model holds: components, parameters, schedule, sizes, licence, hashes."""
    from unnoise import hub

    path = hub.find(what)
    d = _file(path, not no_hash) if path.is_file() else _folder(path, not no_hash)
    emit(d, as_json, None if as_json else _text(d))


# --- weights ------------------------------------------------------------------------------------------------


def _count(tensors: Iterable[tuple[str, TensorInfo]]) -> dict:
    """parameters, dtypes and bytes of some tensors with their names; whole numbers and running statistics are
    no parameters.
    """
    some = list(tensors)
    trained = [
        t for name, t in some if t.dtype in _FLOATS and not name.endswith((".running_mean", ".running_var"))
    ]
    return {
        "parameters": sum(math.prod(t.shape) for t in trained),
        "dtypes": sorted({t.dtype for t in trained}),
        "bytes": sum(t.end - t.start for _, t in some),
    }


def _sha256(path: Path, left: dict[str, str], notes: list[str]) -> str:
    """The hash of a weight file, whose tensors that are used must be finite; what is known of large files is
    kept.

    left: tensors that are not used. notes: gets a line on values beyond float16.
    """
    from unnoise.hub import leftovers
    from unnoise.hub.weights import examine

    facts = examine(path)
    unused = {*left, *(leftovers.plain(k) for k in left)}
    bad = [k for k in facts.bad if leftovers.plain(k) not in unused]
    if bad:
        raise BadInput(f"{path}: tensor {bad[0]!r} holds non-finite values")
    large = {k: v for k, v in facts.large.items() if leftovers.plain(k) not in unused}
    if large:
        name = max(large, key=large.__getitem__)
        notes.append(
            f"{path.name}: {name} has values up to {large[name]:.3g}, float16 ends at 65504: give --dtype"
            " fp32 or bf16"
        )
    return facts.sha256


def _told(left: dict[str, str]) -> dict[str, int]:
    """How many tensors are left out for each reason."""
    return {why: list(left.values()).count(why) for why in sorted(set(left.values()))}


def _file(path: Path, hashed: bool) -> dict:
    """A single file: its parts by the first words of the tensors' names."""
    from unnoise.hub.weights import header

    head = header(path)
    groups: dict[str, list] = {}
    for name, t in head.tensors.items():
        known = next((p for p in _PREFIXES if name.startswith(p + ".")), None)
        groups.setdefault(known or name.split(".")[0], []).append((name, t))
    parts = {
        _PREFIXES.get(k, k): {"prefix": k, "tensors": len(v), **_count(v)} for k, v in sorted(groups.items())
    }
    spec = {k.removeprefix("modelspec."): v for k, v in head.metadata.items()}
    left, notes = _unread(head)
    return {
        "name": spec.get("title") or path.stem,
        "file": str(path),
        "class": spec.get("architecture"),
        "components": parts,
        **{k: v for k, v in _count(head.tensors.items()).items() if k != "dtypes"},
        "prediction": spec.get("prediction_type"),
        "licence": spec.get("license"),
        "sha256": {path.name: _sha256(path, left, notes)} if hashed else None,
        "notes": notes,
        "left_out": _told(left),
    }


def _unread(head: Any) -> tuple[dict[str, str], list[str]]:
    """What of a single file is not read, and what there is to say of it: where it is no model that can be
    loaded, why.
    """
    from unnoise.hub import original, weights

    shapes = weights.shapes(head)
    for own_vae in (True, False):
        try:
            parts = original.convert(shapes, head.metadata, own_vae=own_vae)
        except BadInput as e:
            said = str(e)
        else:
            return parts.left_out, [
                *parts.notes,
                *([] if own_vae else ["it has no autoencoder: name one with --vae FOLDER"]),
            ]
    return {}, [said]


# --- folders ------------------------------------------------------------------------------------------------


def _folder(path: Path, hashed: bool) -> dict:
    from unnoise import hub
    from unnoise.hub.catalog import model_of
    from unnoise.hub.fetch import manifest
    from unnoise.hub.index import read_index

    path = model_of(path)
    index = read_index(path)
    hub.check_family(index, path)
    named = {k: v[1] for k, v in index.items() if isinstance(v, list) and len(v) == 2 and v[1]}
    nets, used = _used(path, index, named)
    configs = {k: _config(path, k) for k in used if k != "tokenizer"}
    weights = {k: hub.weight_files(path / k) for k in used if k in nets}
    files = [f for some in weights.values() for f in some]
    from_hub = manifest(path)
    left, notes = _left_out(path, configs, weights)
    sha256 = _hashes(path, files, left, notes) if hashed else None
    _compare(path, sha256, index.get("_sha256", {}))
    if from_hub:
        _intact(path, from_hub, sha256)
    return {
        "name": index.get("_name") or (from_hub["repo"] if from_hub else path.resolve().name),
        "folder": str(path),
        "class": index.get("_class_name"),
        **_components({k: named[k] for k in used}, weights),
        "bytes": sum(f.stat().st_size for f in files),
        **_process(path, configs, index, notes),
        "image": _image(path, configs),
        "text": _words(path, configs),
        "licence": _licence(path, index, files),
        "manifest": from_hub and _fetched(from_hub, hashed),
        "ignored": _ignored(path, named, used, files),
        "left_out": {k: _told(v) for k, v in left.items() if v},
        "sha256": sha256,
    }


def _used(path: Path, index: dict, named: dict[str, str]) -> tuple[list[str], list[str]]:
    """The components that have weights, and those that are used. BadInput: no network is among them.

    Our own models keep a CLIP's image encoder; of others it is not used.
    """
    from unnoise.nets.table import TABLE

    nets = [*TABLE, "image_encoder"] if "_clip" in index else [*TABLE]
    used = [k for k in (*nets, *PLAIN) if k in named]
    if not set(used) & set(TABLE):
        raise BadInput(
            f"{path / 'model_index.json'} names none of the networks that are known ({', '.join(TABLE)})"
        )
    return nets, used


def _components(classes: dict[str, str], weights: dict[str, list[Path]]) -> dict:
    """Each component's class and, where it has weights, how many and of which types; and their sum."""
    parts: dict[str, dict] = {
        k: {"class": name, **(_component(weights[k]) if k in weights else {})} for k, name in classes.items()
    }
    return {"components": parts, "parameters": sum(p.get("parameters", 0) for p in parts.values())}


def _hashes(path: Path, files: list[Path], left: dict[str, dict[str, str]], notes: list[str]) -> dict:
    """The sha256 of each weight file; a note where one holds what is not finite."""
    unused = {k: why for some in left.values() for k, why in some.items()}
    return {str(f.relative_to(path)): _sha256(f, unused, notes) for f in files}


def _fetched(from_hub: dict, hashed: bool) -> dict:
    """Where a folder was fetched from, and whether it is still as it was."""
    return {k: from_hub[k] for k in ("repo", "commit", "variant")} | {"matches": True if hashed else None}


def _left_out(path: Path, configs: dict, files: dict) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Of each part with weights: which tensors are not read, and why; and a note where its weights do not fit
    its config.
    """
    from unnoise.hub import stored

    left, notes = {}, []
    for part in files:
        if part == "image_encoder":
            continue
        try:
            left[part] = stored.left_out(path, part, configs[part])
        except BadInput as e:
            notes.append(str(e))
    return left, notes


def _config(path: Path, part: str) -> dict:
    from unnoise.hub import read_json

    return read_json(path / part / ("scheduler_config.json" if part == "scheduler" else "config.json"))


def _component(files: list[Path]) -> dict:
    from unnoise.hub.weights import header

    return _count(t for f in files for t in header(f).tensors.items())


def _compare(path: Path, got: dict[str, str] | None, wanted: dict[str, str]) -> None:
    """BadInput unless the files that model_index.json lists are there with that content (hashed where hashes
    are wanted).
    """
    from unnoise.hub.fetch import digest

    for name, sha256 in wanted.items():
        if not (path / name).is_file():
            raise BadInput(f"{path / name} is missing")
        if got is not None and (got.get(name) or digest(path / name, sha256)) != sha256:
            raise BadInput(
                f"{path / name} is damaged or was changed: its sha256 differs from the one in"
                " model_index.json"
            )


def _intact(path: Path, d: dict, sha256: dict[str, str] | None) -> None:
    """BadInput unless every file of the manifest is there, of its size, and (where hashes are wanted) with
    its content.
    """
    from unnoise.hub.fetch import MANIFEST, digest

    again = f"delete it, then unnoise fetch {d['repo']} fetches that file again"
    for name, f in d["files"].items():
        file = path / name
        if not file.is_file():
            raise BadInput(f"{file} is missing: unnoise fetch {d['repo']} fetches it again")
        size = file.stat().st_size
        if size != f["size"]:
            raise BadInput(f"{file} has {size} bytes, {MANIFEST} says {f['size']}: {again}")
        if sha256 is not None and (sha256.get(name) or digest(file, f["sha256"])) != f["sha256"]:
            raise BadInput(f"{file} is damaged: its sha256 differs from the one in {MANIFEST}: {again}")


def _process(path: Path, configs: dict, index: dict, notes: list[str]) -> dict:
    """What the net predicts, the schedule it was trained on, and the sampler that is used unless another is
    asked for.
    """
    from unnoise.hub import schedulers
    from unnoise.pipeline import DEFAULTS

    if "scheduler" not in configs:
        return {"prediction": None, "schedule": None, "sampler": None, "notes": notes}
    try:
        s = schedulers.read(configs["scheduler"], latents="vae" in configs)
    except BadInput as e:
        raise BadInput(f"{path / 'scheduler' / 'scheduler_config.json'}: {e}") from None
    unsaid = schedulers.unsaid(configs["scheduler"]) if "vae" in configs else None
    defaults = {**DEFAULTS, **s.defaults, **index.get("_defaults", {})}
    return {
        "prediction": s.process.predict,
        "schedule": _schedule(s.process, configs["scheduler"]),
        "sampler": {k: defaults[k] for k in ("sampler", "spacing")},
        "notes": [*notes, *s.notes, *([unsaid] if unsaid else [])],
    }


def _schedule(process: Any, config: dict) -> dict:
    """Its name and options, the betas' range where it is one of betas, T, and whether its last level holds no
    signal.
    """
    import inspect

    from unnoise.process.schedule import SCHEDULES

    name = process.schedule.removesuffix("-zsnr")
    options = {
        k: v.default for k, v in inspect.signature(SCHEDULES[name]).parameters.items()
    } | process.schedule_options
    return {
        "name": process.schedule,
        "class": config.get("_class_name"),
        **{k: v for k, v in options.items() if isinstance(v, (int, float))},
        "zero_terminal_snr": process.schedule.endswith("-zsnr"),
    }


def _image(path: Path, configs: dict) -> dict | None:
    """Height, width and channels of what is drawn; latents are as many times smaller as the autoencoder
    halves its input.
    """
    codec, unet, vae = configs.get("codec"), configs.get("unet"), configs.get("vae")
    if codec:
        return {k: codec[k] for k in ("height", "width", "channels", "size") if k in codec}
    if not unet or not vae:
        return None
    from unnoise.hub import sizes

    return sizes.drawn(unet, vae, path)


def _words(path: Path, configs: dict) -> dict | None:
    """Width and context of the text encoder, which must be what the UNet takes; or how many words a small
    model knows.
    """
    text, words = configs.get("text_encoder"), configs.get("words")
    if words:
        from unnoise.base import read
        from unnoise.text.words import WordsFile

        return {"words": len(read.fit(WordsFile, words, str(path / "words" / "config.json")).words)}
    if not text:
        return None
    width, takes = text.get("hidden_size"), configs.get("unet", {}).get("cross_attention_dim")
    if takes is not None and any(t != width for t in (takes if isinstance(takes, list) else [takes])):
        raise BadInput(
            f"{path}: the text encoder's width is {width} (text_encoder/config.json), the UNet takes {takes}"
            " (unet/config.json)"
        )
    return {"width": width, "context": text.get("max_position_embeddings")}


def _licence(path: Path, index: dict, files: list[Path]) -> str | None:
    """As stated in the card's front matter, in our cards' table, in the index, or in the weights' metadata;
    else None.
    """
    from unnoise.hub.weights import header

    try:
        card = (path / "README.md").read_text(errors="replace")
    except OSError:
        card = ""
    front = re.match(r"---\s*\n(.*?)\n---", card, re.S)
    stated = (
        re.search(r"^license:[ \t]*(?:\n\s*-\s*)?(\S[^\n]*)", front[1], re.M)
        if front
        else _LICENCE.search(card)
    )
    if stated:
        return stated[1].strip().strip("'\"")
    if index.get("license"):
        return str(index["license"])
    return next(
        (v for f in files for k, v in header(f).metadata.items() if k in ("license", "modelspec.license")),
        None,
    )


def _ignored(path: Path, named: dict, used: list[str], whole: list[Path]) -> list[str]:
    """What is there or is named and is not used: other components, other weight formats of ours."""
    files = [f for k in (*used, ".") for f in (path / k).glob("*") if f.suffix in _FORMATS and f not in whole]
    return sorted([*(k for k in named if k not in used), *(str(f.relative_to(path)) for f in files)])


# --- in words -----------------------------------------------------------------------------------------------


def _text(d: dict) -> str:
    lines = [
        f"{d['name']} ({d['class'] or 'a single file'}): {_short(d['parameters'])} parameters,"
        f" {d['bytes'] / 1e6:.1f} MB"
    ]
    for name, c in d["components"].items():
        counted = (
            f"{_short(c['parameters']):>9}  {', '.join(c['dtypes']):5} {c['bytes'] / 1e6:9.1f} MB"
            if "parameters" in c
            else ""
        )
        lines.append(f"  {name:14} {c.get('class') or c.get('prefix', ''):24} {counted}".rstrip())
    for key in (
        "prediction",
        "schedule",
        "sampler",
        "image",
        "text",
        "licence",
        "manifest",
        "notes",
        "ignored",
        "left_out",
        "sha256",
    ):
        if d.get(key):
            lines.append(f"{key:12} {_value(d[key])}")
    return "\n".join(lines)


def _value(v: Any) -> str:
    if isinstance(v, dict):
        return ", ".join(f"{k} {_value(x)}" for k, x in v.items() if x is not None)
    if isinstance(v, list):
        return ", ".join(map(str, v))
    return {True: "yes", False: "no"}[v] if isinstance(v, bool) else str(v)


def _short(n: int) -> str:
    return f"{n / 1e9:.2f} G" if n >= 1e9 else f"{n / 1e6:.2f} M" if n >= 1e6 else f"{n / 1e3:.1f} k"
