"""CLIP's text and image encoders, with the parameter names of the published checkpoints (Radford et al. 2021,
arXiv:2103.00020).

Both are stacks of x + attention(norm(x)), then x + mlp(norm(x)). Text: token + position embeddings, causal
attention, a final layer norm; the pooled vector is the one at the end token, the first that has seen the
whole prompt. Image: a class token and one token a patch; the pooled vector is the class token's, normalised.
A bias-free projection takes each to the shared space, where <image, text> of unit vectors is the similarity.
SD 1.x conditions on the last hidden states of the ViT-L/14 text encoder (quick_gelu), 2.x on OpenCLIP's
ViT-H/14 (gelu) without its last layer, which its published folders leave out already; `skip` leaves layers
out on request.

The modules have no buffers, so a net built under `torch.device("meta")` takes its weights with
`load_state_dict(weights, assign=True)`.
"""

from __future__ import annotations

import math
from itertools import islice
from typing import Annotated, Literal, NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from unnoise.base.errors import BadInput
from unnoise.base.read import fit
from unnoise.base.text import short
from unnoise.nets import layers
from unnoise.nets.bounds import Count, Layers, Small, Width
from unnoise.nets.unet import TimestepEmbedding, sinusoid

MEAN, STD = (
    (0.48145466, 0.4578275, 0.40821073),
    (0.26862954, 0.26130258, 0.27577711),
)  # of RGB in [0, 1], as CLIP was trained
LOGIT_SCALE, MAX_LOGIT_SCALE = (
    math.log(1 / 0.07),
    math.log(100),
)  # CLIP's log-temperature at the start, and where it is clamped
SIGLIP_SCALE, SIGLIP_BIAS = math.log(10), -10.0  # SigLIP's t' and b at the start


# --- configuration ------------------------------------------------------------------------------------------

Token = Annotated[int, Field(strict=True, ge=-1, le=2_000_000)]


class _Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    hidden_size: Width
    intermediate_size: Width
    num_hidden_layers: Layers = 12
    num_attention_heads: Width
    hidden_act: Literal["quick_gelu", "gelu"] = "quick_gelu"
    layer_norm_eps: Small = 1e-5
    projection_dim: Width | None = 512

    @model_validator(mode="after")
    def _heads_fit(self):
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size = {self.hidden_size} is not a multiple of num_attention_heads ="
                f" {self.num_attention_heads}"
            )
        return self


class TextConfig(_Config):
    """The shape of a text encoder; keys and defaults are those of transformers' CLIPTextConfig."""

    hidden_size: Width = 512
    intermediate_size: Width = 2048
    num_attention_heads: Width = 8
    max_position_embeddings: Width = 77
    vocab_size: Count = 49408
    bos_token_id: Token | None = 49406
    eos_token_id: Token = 49407  # 2 in old configs, by mistake: see `end`
    pad_token_id: Token | None = 1


class VisionConfig(_Config):
    """The shape of an image encoder; keys and defaults are those of transformers' CLIPVisionConfig. Images
    are square.
    """

    hidden_size: Width = 768
    intermediate_size: Width = 3072
    num_attention_heads: Width = 12
    num_channels: Width = 3
    image_size: Width = 224
    patch_size: Width = 32

    @model_validator(mode="after")
    def _patches_fit(self):
        if self.patch_size > self.image_size:
            raise ValueError(f"patch_size = {self.patch_size} is larger than image_size = {self.image_size}")
        return self


C = TypeVar("C", bound=_Config)


def text_config_from(d: dict) -> TextConfig:
    """A TextConfig from a published `config.json`: of a text encoder, or of a whole CLIP (then from its
    text_config).

    The many keys there that do not change CLIP's maths (dropout, initialisers, dtype, versions, generation)
    are passed over; `model_type` vouches for the maths. BadInput: another model type, a value that is not
    supported.
    """
    return _config_from(TextConfig, d, "text")


def vision_config_from(d: dict) -> VisionConfig:
    """A VisionConfig from a published `config.json`, as `text_config_from` (a whole CLIP: from its
    vision_config).
    """
    return _config_from(VisionConfig, d, "vision")


def _config_from(cls: type[C], d: dict, part: str) -> C:
    kinds = (f"clip_{part}_model", "clip")
    kind = d.get("model_type", "clip" if f"{part}_config" in d else kinds[0])
    if kind not in kinds:
        raise BadInput(
            f"CLIP {part} config: model_type {short(kind)} is not supported (accepted: {', '.join(kinds)})"
        )
    if d.get("quantization_config"):
        raise BadInput(f"CLIP {part} config: quantised weights (quantization_config) are not supported")
    if kind == "clip":
        d = _nested(d, part)
    return fit(cls, {k: v for k, v in d.items() if k in cls.model_fields}, f"CLIP {part} config")


def _nested(d: dict, part: str) -> dict:
    """The part of a whole CLIP's config. Old ones have it twice, and then "…_config_dict" counts; the
    projection is the whole's.
    """
    inner = d.get(f"{part}_config_dict")
    if inner is None:
        inner = d.get(f"{part}_config") or {}
    if not isinstance(inner, dict):
        raise BadInput(f"CLIP config: {part}_config must be an object, it is {inner!r:.60}")
    return {**inner, "projection_dim": d["projection_dim"]} if "projection_dim" in d else inner


def published_keys(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights under our names, from those found in files.

    transformers 4 saves the text and image model with the prefix `text_model.` or `vision_model.`, as our
    modules are named, transformers 5 without (and opens both); old files also carry `position_ids`, which are
    0, 1, 2 … and are dropped. Already mapped: unchanged.
    """
    prefix = (
        "text_model."
        if "embeddings.token_embedding.weight" in weights
        else "vision_model."
        if "embeddings.patch_embedding.weight" in weights
        else ""
    )
    bare = ("embeddings.", "encoder.", "final_layer_norm.", "pre_layrnorm.", "post_layernorm.")
    return {
        prefix + k if k.startswith(bare) else k: v
        for k, v in weights.items()
        if not k.endswith("position_ids")
    }


# --- the transformer ----------------------------------------------------------------------------------------


def quick_gelu(x: Tensor) -> Tensor:
    """x sigmoid(1.702 x): the approximation of GELU that OpenAI's weights were trained with."""
    return x * torch.sigmoid(1.702 * x)


_ACT = {"quick_gelu": quick_gelu, "gelu": F.gelu}


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(width, width) for _ in "qkvo")

    def forward(self, x: Tensor, causal: bool) -> Tensor:
        q, k, v = (
            proj(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for proj in (self.q_proj, self.k_proj, self.v_proj)
        )
        return self.out_proj(layers.attention(q, k, v, causal).transpose(1, 2).flatten(2))


class _MLP(nn.Module):
    def __init__(self, c: _Config):
        super().__init__()
        self.act = _ACT[c.hidden_act]
        self.fc1, self.fc2 = (
            nn.Linear(c.hidden_size, c.intermediate_size),
            nn.Linear(c.intermediate_size, c.hidden_size),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class _Layer(nn.Module):
    def __init__(self, c: _Config):
        super().__init__()
        self.layer_norm1, self.layer_norm2 = _norm(c), _norm(c)
        self.self_attn, self.mlp = _Attention(c.hidden_size, c.num_attention_heads), _MLP(c)

    def forward(self, x: Tensor, causal: bool) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x), causal)
        return x + self.mlp(self.layer_norm2(x))


class _Layers(nn.Module):
    def __init__(self, c: _Config):
        super().__init__()
        self.layers = nn.ModuleList(_Layer(c) for _ in range(c.num_hidden_layers))

    def forward(self, x: Tensor, causal: bool = False, skip: int = 0) -> Tensor:
        for layer in islice(self.layers, len(self.layers) - skip):
            x = layer(x, causal)
        return x


def _norm(c: _Config) -> nn.LayerNorm:
    return nn.LayerNorm(c.hidden_size, c.layer_norm_eps)


def _projection(c: _Config) -> nn.Linear:
    if c.projection_dim is None:
        raise BadInput("a CLIP encoder with projection needs projection_dim in its config, given None")
    return nn.Linear(c.hidden_size, c.projection_dim, bias=False)


def _initialise(net: nn.Module, c: _Config, position: float) -> None:
    """Weights to train from, as in CLIP's released code: what adds to the residual stream is smaller the
    deeper the stack; biases 0.
    """
    w = c.hidden_size**-0.5
    out = w * (2 * c.num_hidden_layers) ** -0.5
    stds = {
        "token_embedding": 0.02,
        "position_embedding": position,
        "q_proj": w,
        "k_proj": w,
        "v_proj": w,
        "out_proj": out,
        "fc1": w * 0.5**0.5,
        "fc2": out,
        "text_projection": w,
        "visual_projection": w,
    }
    for name, module in net.named_modules():
        std = stds.get(name.rpartition(".")[2])
        if std is None or not isinstance(module, (nn.Linear, nn.Embedding)):
            continue
        nn.init.normal_(module.weight, std=std)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)


# --- text ---------------------------------------------------------------------------------------------------


class TextOutput(NamedTuple):
    """hidden (n, t, width), what a UNet attends to; pooled (n, width); projected (n, projection_dim), None
    without a projection.
    """

    hidden: Tensor
    pooled: Tensor
    projected: Tensor | None


class _TextEmbeddings(nn.Module):
    def __init__(self, c: TextConfig):
        super().__init__()
        self.token_embedding = nn.Embedding(c.vocab_size, c.hidden_size)
        self.position_embedding = nn.Embedding(c.max_position_embeddings, c.hidden_size)


class _TextModel(nn.Module):
    def __init__(self, c: TextConfig):
        super().__init__()
        self.config, self.embeddings, self.encoder, self.final_layer_norm = (
            c,
            _TextEmbeddings(c),
            _Layers(c),
            _norm(c),
        )

    def embed(self, ids: Tensor) -> Tensor:
        _check_ids(ids, self.config)
        return self.embeddings.token_embedding(ids)

    def forward(self, ids: Tensor, embeddings: Tensor | None = None, skip: int = 0) -> tuple[Tensor, Tensor]:
        c, depth = self.config, self.config.num_hidden_layers
        if not 0 <= skip <= depth:
            raise BadInput(f"cannot skip {skip} layers of this text encoder (accepted: 0 … {depth})")
        x = self.embed(ids)
        if embeddings is not None:
            if embeddings.shape != x.shape:
                raise BadInput(
                    f"embeddings must be {tuple(x.shape)} for these ids, given {tuple(embeddings.shape)}"
                )
            x = embeddings
        x = x + self.embeddings.position_embedding.weight[: ids.shape[1]]
        hidden = self.final_layer_norm(self.encoder(x, causal=True, skip=skip))
        return hidden, hidden[torch.arange(len(ids), device=ids.device), end(ids, c.eos_token_id)]


def _check_ids(ids: Tensor, c: TextConfig) -> None:
    if ids.ndim != 2 or ids.dtype != torch.int64 or not 0 < ids.shape[1] <= c.max_position_embeddings:
        raise BadInput(
            f"token ids must be int64 (n, t) with t in 1 … {c.max_position_embeddings}, given {ids.dtype}"
            f" {tuple(ids.shape)}"
        )
    if torch.compiler.is_compiling():
        return  # a compiled network cannot look at values
    wrong = ids[(ids < 0) | (ids >= c.vocab_size)]
    if len(wrong):
        raise BadInput(
            f"token id {int(wrong[0])} is not in this text encoder's vocabulary (accepted: 0 …"
            f" {c.vocab_size - 1})"
        )


def end(ids: Tensor, eos_token_id: int) -> Tensor:
    """(n,) positions where the published models pool (n, t) ids: the first end token's; 0, the start token's,
    where there is none.

    Old configs say eos_token_id = 2 although the end token is the last of the vocabulary; there it is the
    first largest id, which tokens added after the vocabulary (textual inversion) would displace: give such an
    encoder a config with its true eos_token_id.
    """
    return (ids if eos_token_id == 2 else (ids == eos_token_id).int()).argmax(dim=-1)


class TextEncoder(nn.Module):
    """Token ids -> hidden states, pooled and (with `projection`) projected vectors: CLIPTextModel,
    CLIPTextModelWithProjection.
    """

    def __init__(self, config: TextConfig, projection: bool = False):
        super().__init__()
        self.config = config
        self.text_model = _TextModel(config)
        self.text_projection = _projection(config) if projection else None
        _initialise(self, config, position=0.01)

    def embed(self, ids: Tensor) -> Tensor:
        """(n, t) ids -> (n, t, width) token embeddings, without positions: edit them and give them to
        `forward` as `embeddings`.
        """
        return self.text_model.embed(ids)

    def forward(self, ids: Tensor, embeddings: Tensor | None = None, skip: int = 0) -> TextOutput:
        """ids (n, t) int64, t up to max_position_embeddings; `embeddings` (n, t, width) are used instead of
        those of the ids, which still say where the prompt ends. `skip`: how many of the last layers to leave
        out ("clip skip"; 1 = penultimate), 0 … num_hidden_layers; the final layer norm is applied always, and
        the pooled vector is taken from the states returned. BadInput: a shape, id or skip outside.
        """
        hidden, pooled = self.text_model(ids, embeddings, skip)
        return TextOutput(
            hidden, pooled, None if self.text_projection is None else self.text_projection(pooled)
        )


# --- images -------------------------------------------------------------------------------------------------


class ImageOutput(NamedTuple):
    """hidden (n, 1 + patches, width), the class token first; pooled (n, width); projected (n,
    projection_dim), None without a projection.
    """

    hidden: Tensor
    pooled: Tensor
    projected: Tensor | None


class _VisionEmbeddings(nn.Module):
    def __init__(self, c: VisionConfig):
        super().__init__()
        self.class_embedding = nn.Parameter(torch.randn(c.hidden_size) * c.hidden_size**-0.5)
        self.patch_embedding = nn.Conv2d(
            c.num_channels, c.hidden_size, c.patch_size, stride=c.patch_size, bias=False
        )
        self.position_embedding = nn.Embedding(1 + (c.image_size // c.patch_size) ** 2, c.hidden_size)

    def forward(self, x: Tensor, level: Tensor | None) -> Tensor:
        patches = self.patch_embedding(x.to(self.patch_embedding.weight.dtype)).flatten(2).transpose(1, 2)
        first = self.class_embedding if level is None else self.class_embedding + level[:, None]
        return torch.cat([first.expand(len(x), 1, -1), patches], dim=1) + self.position_embedding.weight


class _VisionModel(nn.Module):
    def __init__(self, c: VisionConfig):
        super().__init__()
        self.config, self.embeddings, self.encoder = c, _VisionEmbeddings(c), _Layers(c)
        self.pre_layrnorm, self.post_layernorm = (
            _norm(c),
            _norm(c),
        )  # "layrnorm": so it is spelled in the checkpoints

    def forward(self, x: Tensor, level: Tensor | None = None) -> tuple[Tensor, Tensor]:
        want = (self.config.num_channels, self.config.image_size, self.config.image_size)
        if x.ndim != 4 or x.shape[1:] != want:
            raise BadInput(
                f"CLIP images must be (n, {want[0]}, {want[1]}, {want[2]}), given {tuple(x.shape)}"
            )
        hidden = self.encoder(self.pre_layrnorm(self.embeddings(x, level)))
        return hidden, self.post_layernorm(hidden[:, 0])


class ImageEncoder(nn.Module):
    """Images as `prepare` makes them -> hidden states, pooled and (with `projection`) projected vectors:
    CLIPVisionModel(WithProjection).
    """

    def __init__(self, config: VisionConfig, projection: bool = False):
        super().__init__()
        self.config = config
        self.vision_model = _VisionModel(config)
        self.visual_projection = _projection(config) if projection else None
        _initialise(self, config, position=config.hidden_size**-0.5)

    def _output(self, hidden: Tensor, pooled: Tensor) -> ImageOutput:
        return ImageOutput(
            hidden, pooled, None if self.visual_projection is None else self.visual_projection(pooled)
        )

    def forward(self, x: Tensor) -> ImageOutput:
        """x (n, num_channels, image_size, image_size); hidden states are those before the last layer norm.
        BadInput: another shape.
        """
        return self._output(*self.vision_model(x))


class NoisedImageEncoder(ImageEncoder):
    """An image encoder that is told how noisy its image is, for CLIP guidance (GLIDE, Nichol et al. 2021,
    arXiv:2112.10741, section 3.2).

    The level enters at the class token, the one that becomes the pooled vector, as in GLIDE's released code;
    there a learned row for each of 1000 times replaces the class embedding, here a small network of the
    time's sinusoids is added to it, so t may be any number. That network starts at zero and no token joins
    the sequence: with a plain encoder's weights it is that encoder until it is trained.
    """

    def __init__(self, config: VisionConfig, projection: bool = False):
        super().__init__(config, projection)
        self.level_embedding = TimestepEmbedding(config.hidden_size, config.hidden_size)
        for p in self.level_embedding.linear_2.parameters():
            nn.init.zeros_(p)

    @classmethod
    def from_plain(cls, encoder: ImageEncoder) -> NoisedImageEncoder:
        """A noised encoder that starts as a copy of `encoder`, on its device and in its dtype."""
        noised = cls(encoder.config, encoder.visual_projection is not None).to(next(encoder.parameters()))
        noised.load_state_dict(
            encoder.state_dict()
            | {f"level_embedding.{k}": v for k, v in noised.level_embedding.state_dict().items()}
        )
        return noised

    def forward(self, x: Tensor, t: Tensor) -> ImageOutput:
        """x as for ImageEncoder; t (), (1,) or (n,) in the units it is trained with (0 … 1000 suits the
        sinusoids). BadInput: other shapes.
        """
        if t.numel() not in (1, len(x)):
            raise BadInput(f"times for {t.numel()} samples given with a batch of {len(x)}")
        wave = sinusoid(t.reshape(-1), self.config.hidden_size).to(self.level_embedding.linear_1.weight.dtype)
        return self._output(*self.vision_model(x, self.level_embedding(wave)))


def prepare(images: Tensor, size: int) -> Tensor:
    """(n, 3, h, w) in [-1, 1] -> (n, 3, size, size) as CLIP sees images: the short side resized (bicubic,
    antialiased), the middle cut out, normalised by MEAN and STD of RGB in [0, 1]. Differentiable; nothing is
    rounded or clipped (PIL's resize does both). BadInput: a shape.
    """
    if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape or size < 1:
        raise BadInput(
            f"images must be (n, 3, h, w) and size at least 1, given {tuple(images.shape)} and {size}"
        )
    h, w = (n * size // min(images.shape[2:]) for n in images.shape[2:])
    if (h, w) != images.shape[2:]:
        images = F.interpolate(images, (h, w), mode="bicubic", antialias=True)
    top, left = (h - size) // 2, (w - size) // 2
    mean, std = (images.new_tensor(v).view(3, 1, 1) for v in (MEAN, STD))
    return ((images[..., top : top + size, left : left + size] + 1) / 2 - mean) / std


# --- both, and what trains them -----------------------------------------------------------------------------


class CLIP(nn.Module):
    """Text and images in one space: published CLIPModel weights, or our own to train with `clip_loss(*clip(x,
    ids), clip.logit_scale)`.
    """

    def __init__(self, text_config: TextConfig, vision_config: VisionConfig):
        super().__init__()
        if text_config.projection_dim != vision_config.projection_dim:
            raise BadInput(
                f"CLIP needs one projection_dim, given {text_config.projection_dim} (text) and"
                f" {vision_config.projection_dim} (image)"
            )
        text, image = TextEncoder(text_config, projection=True), ImageEncoder(vision_config, projection=True)
        self.text_model, self.text_projection = text.text_model, text.get_submodule("text_projection")
        self.vision_model, self.visual_projection = (
            image.vision_model,
            image.get_submodule("visual_projection"),
        )
        self.logit_scale = nn.Parameter(torch.tensor(LOGIT_SCALE))

    def encode_text(self, ids: Tensor) -> Tensor:
        """(n, t) ids -> (n, projection_dim) unit vectors."""
        return F.normalize(self.text_projection(self.text_model(ids)[1]), dim=-1)

    def encode_image(self, x: Tensor) -> Tensor:
        """(n, num_channels, image_size, image_size) from `prepare` -> (n, projection_dim) unit vectors."""
        return F.normalize(self.visual_projection(self.vision_model(x)[1]), dim=-1)

    def forward(self, x: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Both: (image vectors, text vectors)."""
        return self.encode_image(x), self.encode_text(ids)


def clip_loss(image: Tensor, text: Tensor, logit_scale: Tensor) -> Tensor:
    """CLIP's symmetric cross-entropy of matching rows of unit vectors (n, d), () in nats: which text belongs
    to an image, and the reverse.

    The temperature exp(logit_scale) is clamped to 100 here; beyond it logit_scale gets no gradient, so a
    trainer clamps the parameter itself to MAX_LOGIT_SCALE after each step, as CLIP's authors do: at that
    value the gradient still flows. Starts at LOGIT_SCALE.
    """
    _check_pairs(image, text)
    logits = logit_scale.clamp(max=MAX_LOGIT_SCALE).exp() * image @ text.T
    own = torch.arange(len(image), device=image.device)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def siglip_loss(image: Tensor, text: Tensor, logit_scale: Tensor, bias: Tensor) -> Tensor:
    """-sum_ij log sigmoid(z_ij (exp(logit_scale) <image_i, text_j> + bias)) / n, z = 1 for i = j and -1
    elsewhere; unit vectors (n, d) -> ().

    Every pair is a yes-or-no question of its own, so small batches do. Starts at SIGLIP_SCALE and
    SIGLIP_BIAS, where the n - 1 wrong texts of an image weigh next to nothing. (Zhai et al. 2023,
    arXiv:2303.15343, algorithm 1)
    """
    _check_pairs(image, text)
    z = 2 * torch.eye(len(image), dtype=image.dtype, device=image.device) - 1
    return -F.logsigmoid(z * (logit_scale.exp() * image @ text.T + bias)).sum() / len(image)


def _check_pairs(image: Tensor, text: Tensor) -> None:
    if image.ndim != 2 or image.shape != text.shape or not len(image):
        raise BadInput(
            f"image and text vectors must be two equal (n, d) with n at least 1, given {tuple(image.shape)}"
            f" and {tuple(text.shape)}"
        )
