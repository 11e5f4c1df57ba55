"""A model hub on this machine: the few endpoints that fetching uses, over real sockets, with faults on
request.

GET /api/models/<repo>[/revision/<rev>]?blobs=true    the listing, with sizes and digests
GET /<repo>/resolve/<rev>/<file>                      a small file; a large one redirects (302) to a second
                                                      host, as the real one does
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import threading
from collections import defaultdict
from email.message import Message
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import numpy as np
from safetensors.numpy import save

REPO = "painter/tiny-sd"
NET = "diffusion_pytorch_model"


def tensors(seed: int, dtype=np.float32, **shapes: tuple[int, ...]) -> bytes:
    rng = np.random.default_rng(seed)
    return save(
        {k: rng.standard_normal(shape).astype(dtype) for k, shape in shapes.items()},
        metadata={"format": "pt"},
    )


def published() -> dict[str, bytes]:
    """A repository as they are published: what is needed, and much that is not."""

    def js(**d):
        return json.dumps(d).encode()

    def of(name):
        return [name.split(".")[0], name.split(".")[1]]

    files = {
        "model_index.json": js(
            _class_name="StableDiffusionPipeline",
            unet=of("diffusers.UNet2DConditionModel"),
            vae=of("diffusers.AutoencoderKL"),
            text_encoder=of("transformers.CLIPTextModel"),
            tokenizer=of("transformers.CLIPTokenizer"),
            scheduler=of("diffusers.DDIMScheduler"),
            safety_checker=of("stable_diffusion.Checker"),
            feature_extractor=of("transformers.CLIPImageProcessor"),
            image_encoder=[None, None],
        ),
        "README.md": b"---\nlanguage: en\nlicense: creativeml-openrail-m\ntags:\n- x\n---\n# A card\n",
        "LICENSE.md": b"terms\n",
        "unet/config.json": js(
            _class_name="UNet2DConditionModel", sample_size=8, cross_attention_dim=32, in_channels=4
        ),
        "vae/config.json": js(
            _class_name="AutoencoderKL", block_out_channels=[4, 4, 4, 4], latent_channels=4, out_channels=3
        ),
        "text_encoder/config.json": js(hidden_size=32, max_position_embeddings=77),
        "tokenizer/vocab.json": js(a=0),
        "tokenizer/merges.txt": b"#version: 0.2\na b\n",
        "tokenizer/tokenizer_config.json": js(),
        "scheduler/scheduler_config.json": js(
            _class_name="DDIMScheduler",
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            num_train_timesteps=1000,
            prediction_type="v_prediction",
            rescale_betas_zero_snr=True,
            timestep_spacing="trailing",
            steps_offset=1,
        ),
        f"unet/{NET}.safetensors": tensors(1, conv=(100, 1000), bias=(100,)),
        f"unet/{NET}.fp16.safetensors": tensors(1, np.float16, conv=(100, 1000)),
        f"unet/{NET}.non_ema.safetensors": tensors(2, conv=(9, 9)),
        f"vae/{NET}.safetensors": tensors(3, conv=(50, 100)),
        "text_encoder/model.safetensors": save(
            {"w": np.ones((32, 32), np.float32), "position_ids": np.arange(77)[None]}
        ),
        "text_encoder/model.fp16.safetensors": tensors(4, np.float16, w=(32, 32)),
        f"unet/{NET}.bin": b"\x80\x02pickle",
        f"vae/{NET}.bin": b"\x80\x02pickle",
        "text_encoder/pytorch_model.bin": b"\x80\x02pickle",
        "v1-5.safetensors": tensors(5, w=(3,)),
        "v1-5.ckpt": b"PK\x03\x04",
        "unet/flax_model.msgpack": b"x",
        "unet/model.onnx": b"x",
        "safety_checker/model.safetensors": tensors(6, w=(3,)),
        "feature_extractor/preprocessor_config.json": b"{}",
        "docs/unet/config.json": b"{}",
    }
    return files


NEEDED = [
    "LICENSE.md",
    "README.md",
    "model_index.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "tokenizer/merges.txt",
    "tokenizer/tokenizer_config.json",
    "tokenizer/vocab.json",
    "unet/config.json",
    f"unet/{NET}.safetensors",
    "vae/config.json",
    f"vae/{NET}.safetensors",
]


@cache
def git_oid(raw: bytes) -> str:
    """What git itself calls this content."""
    return (
        subprocess.run(["git", "hash-object", "--stdin"], input=raw, capture_output=True, check=True)
        .stdout.decode()
        .strip()
    )


class HubServer:
    """One repository. `faults[file]` is a list of dicts, one for each of the next requests of that file:

    cut: n bytes of body, then the connection ends; hang: n bytes, then silence until `go` is set; status:
    that one; body: these bytes; kind: that Content-Type; no_length: none is given; no_range: the whole file
    whatever is asked. `requests` lists (file, the request's headers) with "" for a listing, `sent` the body
    bytes of each file.
    """

    def __init__(self):
        self.files, self.commit, self.digests = published(), "a" * 40, {}
        self.faults: dict[str, list[dict]] = defaultdict(list)
        self.requests: list[tuple[str, Message]] = []
        self.paths: list[str] = []
        self.sent: dict[str, int] = defaultdict(int)
        self.gated = self.wrong_oid = False
        self.page = b""
        self.go = threading.Event()
        self.servers = [self._serve(), self._serve()]
        self.endpoint, self.cdn = (f"http://127.0.0.1:{s.server_address[1]}" for s in self.servers)
        self.cdn_headers: list[Message] = []

    def close(self):
        self.go.set()
        for s in self.servers:
            s.shutdown(), s.server_close()

    def _serve(self):
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                hub.answer(self)

            def log_message(self, *_):
                pass  # pytest's output is for failures

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return server

    def ranges(self, file: str) -> list[str | None]:
        """The Range headers with which a file was asked for, in order."""
        return [h.get("Range") for f, h in self.requests if f == file]

    def forget(self):
        self.requests, self.paths, self.cdn_headers, self.sent = [], [], [], defaultdict(int)

    # --- answers

    def answer(self, r):
        path, cdn = unquote(urlsplit(r.path).path), r.server is self.servers[1]
        self.paths.append(path)
        if cdn:
            self.cdn_headers.append(r.headers)
        if path.startswith("/api/"):
            self.requests.append(("", r.headers))
            return self._listing(r, path)
        start, rest = f"/{REPO}/resolve/", path.partition("/resolve/")[2]
        revision, _, file = rest.partition("/")
        if not path.startswith(start) or revision != self.commit or file not in self.files:
            return self._error(r, 404, "EntryNotFound")
        if self.gated:
            return self._error(r, 403, "GatedRepo")
        if file.endswith(".safetensors") and not cdn:
            return self._send(
                r,
                302,
                b"",
                {
                    "Location": self.cdn + r.path,
                    "X-Linked-Size": str(len(self.files[file])),
                    "X-Repo-Commit": self.commit,
                },
            )
        self._file(r, file)

    def _listing(self, r, path):
        if self.page:
            return self._send(r, 200, self.page, {"Content-Type": "text/html"})
        if not path.startswith(f"/api/models/{REPO}"):
            return self._error(r, 401, "RepoNotFound")
        revision = path.partition("/revision/")[2]
        if revision not in ("", "main", "v1", self.commit):
            return self._error(r, 404, "RevisionNotFound")
        siblings = [
            {
                "rfilename": n,
                "size": len(raw),
                "blobId": self.digests.get(n, git_oid(raw) if n in NEEDED else "0" * 40),
            }
            | (
                {
                    "lfs": {
                        "size": len(raw),
                        "sha256": self.digests.get(n, hashlib.sha256(raw).hexdigest()),
                        "pointerSize": 134,
                    }
                }
                if n.endswith(".safetensors")
                else {}
            )
            for n, raw in self.files.items()
        ]
        self._send(
            r,
            200,
            json.dumps({"id": REPO, "sha": self.commit, "siblings": siblings}).encode(),
            {"Content-Type": "application/json"},
        )

    def _file(self, r, file):
        self.requests.append((file, r.headers))
        fault = self.faults[file].pop(0) if self.faults[file] else {}
        if "status" in fault:
            return self._error(r, fault["status"], "")
        raw, asked = fault.get("body", self.files[file]), r.headers.get("Range")
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and not fault.get("no_range") else 0
        headers = {
            "Content-Type": fault.get("kind", "application/octet-stream"),
            "ETag": f'"{hashlib.md5(raw).hexdigest()}"',
        }
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(raw) - 1}/{len(raw)}"
        stop = fault.get("cut", fault.get("hang"))
        self._send(
            r, 206 if start else 200, raw[start:], headers, stop, file, "hang" in fault, "no_length" in fault
        )

    def _send(self, r, status, raw, headers, stop=None, file="", hang=False, no_length=False):
        r.send_response(status)
        for k, v in headers.items():
            r.send_header(k, v)
        if not no_length:
            r.send_header("Content-Length", str(len(raw)))
        r.end_headers()
        self.sent[file] += len(raw[:stop])
        try:
            r.wfile.write(raw[:stop])
            r.wfile.flush()
        except OSError:
            pass
        if hang:
            self.go.wait(30)
        r.close_connection = True

    def _error(self, r, status, code):
        self._send(
            r,
            status,
            b'{"error": "no"}',
            {"X-Error-Code": code, "Content-Type": "application/json"} if code else {},
        )
