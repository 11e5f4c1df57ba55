"""What the cases are made of: small whole models, checkpoints, tokenizers, pictures, data, runs, recipes."""

from __future__ import annotations

import io
import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageCms

from tests.support import models, sd
from unnoise import hub
from unnoise.cli.main import main
from unnoise.codec.latents import Latents
from unnoise.hub import original
from unnoise.nets.autoencoder import Autoencoder, autoencoder_config_from
from unnoise.nets.clip import TextEncoder, text_config_from
from unnoise.nets.unet import UNet, config_from
from unnoise.text.encode import PromptEncoder
from unnoise.text.tokenizer import Tokenizer
from unnoise.train.recipe import ProcessSection

RECIPE = """name = "small"
seed = 3

[data]
name = "DATA"

[net]
kind = "mlp"
width = 8
layers = 1

[process]
schedule = "cosine"
predict = "v"
density = "lognormal"
density_options = { mean = -1.2, std = 1.2 }

[train]
steps = 2
batch = 4
warmup = 1
lr = 1e-3
betas = [0.9, 0.99]

[log]
every = 1
save = 1
keep = 2
validation_samples = 2
tensorboard = false
"""


def build(nest: Path) -> Path:
    """Make everything in the folder `nest` and return it:

    pixels/ vectors/ sd/ (models), sd.safetensors, tokenizer/ (vocabulary and merges) whole/ (tokenizer.json),
    pictures/, data/, recipes/ (PNG), run/ (a training of two steps, data.npy) and recipe.toml
    """
    nest.mkdir(parents=True, exist_ok=True)
    models.tiny_folder(nest / "pixels")
    models.vector_folder(nest / "vectors")
    _latent(nest)
    _pictures(nest / "pictures")
    _data(nest / "data")
    _run(nest)
    _recipes(nest)
    return nest


def _latent(nest: Path) -> None:
    """A model of latents with a text encoder: as a folder, as one file, and its tokenizer in both forms."""
    tokenizer = Tokenizer.load(sd.write_tokenizer(nest / "tokenizer"))
    tokenizer.save(nest / "whole")
    for name in ("vocab.json", "merges.txt"):
        (nest / "whole" / name).unlink()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = UNet(
            config_from(
                {
                    **sd.TINY_UNET,
                    **sd.SHAPES["1.x"]["unet"],
                    "block_out_channels": (8, 16),
                    "norm_num_groups": 4,
                }
            )
        ).eval()
        vae = Autoencoder(
            autoencoder_config_from({**sd.TINY_VAE, "block_out_channels": (8, 8), "norm_num_groups": 4})
        ).eval()
        shape = {
            **sd.SHAPES["1.x"]["text"],
            "vocab_size": tokenizer.size,
            "max_position_embeddings": 77,
            "num_hidden_layers": 1,
        }
        text = TextEncoder(text_config_from(shape)).eval()
    hub.save(
        nest / "sd",
        name="small",
        kind="unet",
        net=net,
        weights=None,
        codec=Latents.of(vae, 16, 16),
        words=None,
        process=ProcessSection(schedule="scaled_linear", predict="eps"),
        text=PromptEncoder(tokenizer, text),
    )
    _single(nest / "sd.safetensors", net, vae, text)


def _single(path: Path, net: UNet, vae: Autoencoder, text: TextEncoder) -> None:
    from safetensors.torch import save_file

    part = lambda n: original.Part(json.loads(n.config.model_dump_json()), dict(n.state_dict()))
    found = original.revert(part(net), part(vae), part(text))
    save_file({k: v.contiguous() for k, v in found.items()}, path)


def _pictures(folder: Path) -> None:
    folder.mkdir()
    y, x = np.mgrid[:16, :16]
    rgb = np.stack([x * 16, y * 16, (x + y) * 8], -1).astype(np.uint8)
    image, alpha = Image.fromarray(rgb), Image.fromarray(np.dstack([rgb, (x * 16).astype(np.uint8)]))
    exif = Image.Exif()
    exif[0x0112] = 6
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image.save(folder / "rgb.png", icc_profile=profile)
    alpha.save(folder / "rgba.png")
    image.convert("P").save(folder / "palette.png", transparency=3)
    image.convert("L").save(folder / "grey.png", exif=exif)
    Image.fromarray((x * 4000).astype(np.uint16)).save(folder / "deep.png")
    image.convert("1").save(folder / "bits.png")
    image.save(folder / "a.jpg", exif=exif, icc_profile=profile)
    image.convert("CMYK").save(folder / "cmyk.jpg")
    alpha.save(folder / "a.webp")
    image.save(folder / "a.bmp")
    image.save(folder / "a.ppm")
    image.save(folder / "moving.gif", save_all=True, append_images=[image.rotate(90)], duration=70)
    for way in (None, "tiff_lzw", "jpeg", "tiff_adobe_deflate", "packbits"):
        image.save(folder / f"{way}.tif", compression=way)
    Image.fromarray((x / 16).astype(np.float32)).save(folder / "float.tif")
    with suppress(KeyError, OSError):  # a Pillow without that codec
        image.save(folder / "a.avif")


def _data(folder: Path) -> None:
    """One set of each way to lay out data: captions, classes, splits, metadata, and files of arrays."""
    rng = np.random.default_rng(0)
    draw = lambda p: (
        p.parent.mkdir(parents=True, exist_ok=True),
        Image.fromarray(rng.integers(0, 255, (8, 8, 3), np.uint8)).save(p),
    )
    for name in "abc":
        draw(folder / "captions" / f"{name}.png")
        (folder / "captions" / f"{name}.txt").write_text(f"a picture of {name}\n")
        draw(folder / "metadata" / "deep" / f"{name}.png")
        draw(folder / "table" / f"{name}.jpg")
    for where in ("cat/1.png", "cat/2.png", "a dog/1.png"):
        draw(folder / "classes" / where)
    for where in ("train/cat/1.png", "train/dog/1.png", "test/cat/1.png", "test/dog/2.png"):
        draw(folder / "splits" / where)
    rows = [{"file_name": f"deep/{n}.png", "text": f"a picture of {n}"} for n in "abc"]
    (folder / "metadata" / "metadata.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (folder / "table" / "metadata.csv").write_text(
        "file_name,text\n" + "".join(f"{n}.jpg,a picture of {n}\n" for n in "abc")
    )
    files = folder / "files"
    files.mkdir()
    np.save(files / "pictures.npy", rng.integers(0, 255, (6, 8, 8, 1), np.uint8))
    np.save(files / "numbers.npy", rng.normal(size=(8, 3)).astype(np.float32))
    np.savez_compressed(
        files / "labelled.npz",
        x=rng.integers(0, 255, (6, 8, 8), np.uint8),
        labels=np.arange(6) % 2,
        words=np.array(["cat", "dog"]),
    )
    np.savez(
        files / "told.npz",
        x_train=rng.normal(size=(4, 2)),
        x_test=rng.normal(size=(2, 2)),
        captions_train=np.array(list("abcd")),
        captions_test=np.array(list("ab")),
    )
    (files / "table.csv").write_text("a,b\n1,2\n3,4\n0.5,-1e3\n")


def _run(nest: Path) -> None:
    data = nest / "data.npy"
    np.save(data, np.random.default_rng(1).normal(size=(8, 3)).astype(np.float32))
    (nest / "recipe.toml").write_text(RECIPE.replace("DATA", str(data)))
    _done(["train", str(nest / "recipe.toml"), "--out", str(nest / "run")])


def _recipes(nest: Path) -> None:
    """Pictures that carry recipes: one, a grid's, an edit's, one of latents with a prompt, a sweep's."""
    folder, picture = nest / "recipes", str(nest / "pictures" / "rgb.png")
    folder.mkdir()
    pixels, latents = (
        ("--model", str(nest / "pixels"), "--steps", "1", "--seed", "1"),
        ("--model", str(nest / "sd"), "--steps", "1", "--seed", "1"),
    )
    _done(
        [
            "generate",
            "a t-shirt",
            *pixels,
            "-o",
            str(folder / "one.png"),
            "--option",
            "eta=0.5",
            "--sampler",
            "ddim",
        ]
    )
    _done(["generate", "a t-shirt", *pixels, "-n", "2", "-o", str(folder / "grid.png")])
    _done(
        [
            "generate",
            "a (red:1.2) cat",
            *latents,
            "-o",
            str(folder / "latent.png"),
            "--guide",
            "colour=green:2",
            "--height",
            "16",
            "--width",
            "16",
        ]
    )
    _done(["generate", "a t-shirt", *pixels, "-o", str(folder / "sheet.png"), "--sweep", "guidance=1,2"])
    _done(
        [
            "edit",
            "image-to-image",
            picture,
            "a cat",
            *latents,
            "-o",
            str(folder / "edit.png"),
            "--height",
            "16",
            "--width",
            "16",
        ]
    )


def _done(argv: list[str]) -> None:
    """Run a command that must work."""
    try:
        main(argv)
    except SystemExit as e:
        assert e.code in (0, None), (argv, e.code)


def png_with(text: str, key: str = "unnoise", mode: str = "L") -> bytes:
    """A small PNG with a text entry."""
    from PIL.PngImagePlugin import PngInfo

    out, about = io.BytesIO(), PngInfo()
    about.add_text(key, text)
    Image.new(mode, (8, 8)).save(out, format="PNG", pnginfo=about)
    return out.getvalue()
