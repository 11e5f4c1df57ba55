"""CLIP against transformers' with the same weights, its losses against closed forms, its preprocessing
against PIL, and what it refuses.
"""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch.testing import assert_close

from unnoise.errors import BadInput
from unnoise.nets import clip
from unnoise.nets.clip import (
    CLIP,
    ImageEncoder,
    NoisedImageEncoder,
    TextEncoder,
    published_keys,
    text_config_from,
    vision_config_from,
)

TEXT = {  # one as in Stable Diffusion 1.x, with the true and with the old, wrong end token, and one as in 2.x
    "1.x": dict(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=2,
        max_position_embeddings=12,
        vocab_size=60,
        hidden_act="quick_gelu",
        projection_dim=16,
        bos_token_id=58,
        eos_token_id=59,
        pad_token_id=59,
    ),
    "2.x": dict(
        hidden_size=64,
        intermediate_size=160,
        num_hidden_layers=4,
        num_attention_heads=8,
        max_position_embeddings=16,
        vocab_size=60,
        hidden_act="gelu",
        projection_dim=24,
        bos_token_id=58,
        eos_token_id=59,
        pad_token_id=0,
        layer_norm_eps=1e-4,
    ),
}
TEXT["old"] = TEXT["1.x"] | dict(bos_token_id=0, eos_token_id=2, pad_token_id=1)
VISION = {
    "1.x": dict(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=16,
        patch_size=4,
        hidden_act="quick_gelu",
        projection_dim=16,
    ),
    "2.x": dict(
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=8,
        image_size=21,
        patch_size=7,
        hidden_act="gelu",
        projection_dim=24,
    ),
}
VISION["old"] = VISION["1.x"]
CLOSE = dict(rtol=1e-5, atol=1e-5)
SHAPES = pytest.mark.parametrize("name", TEXT)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)
    with torch.no_grad():
        yield


def _shaken(net):
    """Weights far from their start, so that every one of them (biases, norms) matters."""
    for p in net.parameters():
        p.add_(torch.randn_like(p) * 0.2)
    return net.eval()


def _ids(name):
    """Prompts of several lengths and a full one, each with its end token, then padding; ids 1 and 2 (the old
    "end") are among the words.
    """
    t, pad = TEXT[name]["max_position_embeddings"], {"1.x": 59, "old": 59, "2.x": 0}[name]
    ids = torch.randint(1, 58, (4, t), generator=torch.Generator().manual_seed(1))
    ids[:, 0], ids[:, 1] = 58, 2
    for row, last in zip(ids, (2, 4, 7, t - 1)):
        row[last], row[last + 1 :] = 59, pad
    return ids


def _images(name):
    return torch.randn(3, 3, *[VISION[name]["image_size"]] * 2)


def _text_peer(name, cls="CLIPTextModelWithProjection"):
    import transformers

    return _shaken(getattr(transformers, cls)(transformers.CLIPTextConfig(**TEXT[name])))


def _vision_peer(name, cls="CLIPVisionModelWithProjection"):
    import transformers

    return _shaken(getattr(transformers, cls)(transformers.CLIPVisionConfig(**VISION[name])))


def _clip_peer(name):
    from transformers import CLIPConfig, CLIPModel

    return _shaken(
        CLIPModel(
            CLIPConfig(
                text_config=TEXT[name],
                vision_config=VISION[name],
                projection_dim=VISION[name]["projection_dim"],
            )
        )
    )


def _ours(peer, cls, config, *options):
    net = cls(config, *options).eval()
    net.load_state_dict(published_keys(peer.state_dict()))
    return net


# --- parity -------------------------------------------------------------------------------------------------


@SHAPES
def test_text_equals_transformers(name):
    peer, ids = _text_peer(name), _ids(name)
    net = _ours(peer, TextEncoder, text_config_from(peer.config.to_dict()), True)
    want, pooled, got = peer(ids), peer.text_model(ids).pooler_output, net(ids)
    for a, b in zip(got, (want.last_hidden_state, pooled, want.text_embeds)):
        assert_close(a, b, **CLOSE)


@SHAPES
def test_each_skip_is_the_final_norm_of_that_hidden_state(name):
    peer, ids = _text_peer(name, "CLIPTextModel"), _ids(name)
    net = _ours(peer, TextEncoder, text_config_from(peer.config.to_dict()))
    states = peer(ids, output_hidden_states=True).hidden_states
    assert len(states) == TEXT[name]["num_hidden_layers"] + 1
    for skip in range(len(states)):
        got = net(ids, skip=skip)
        assert_close(got.hidden, peer.final_layer_norm(states[-1 - skip]), **CLOSE)
        assert_close(got.pooled, got.hidden[range(4), [2, 4, 7, ids.shape[1] - 1]])
        assert got.projected is None


@SHAPES
def test_images_equal_transformers(name):
    peer, x = _vision_peer(name), _images(name)
    net = _ours(peer, ImageEncoder, vision_config_from(peer.config.to_dict()), True)
    want, pooled, got = peer(x), peer.vision_model(x).pooler_output, net(x)
    for a, b in zip(got, (want.last_hidden_state, pooled, want.image_embeds)):
        assert_close(a, b, **CLOSE)


@SHAPES
def test_clip_and_its_loss_equal_transformers(name):
    peer, ids, x = _clip_peer(name), _ids(name)[:3], _images(name)
    d = peer.config.to_dict()
    net = CLIP(text_config_from(d), vision_config_from(d)).eval()
    assert set(net.state_dict()) == set(peer.state_dict())
    net.load_state_dict(peer.state_dict())
    want, (image, text) = peer(ids, x, return_loss=True), net(x, ids)
    assert_close(image, want.image_embeds, **CLOSE)
    assert_close(text, want.text_embeds, **CLOSE)
    assert_close(text.norm(dim=-1), torch.ones(3))
    assert_close(clip.clip_loss(image, text, net.logit_scale), want.loss, **CLOSE)


def test_the_old_end_token_is_the_first_largest_id_and_the_new_one_its_first_place():
    ids = torch.tensor([[58, 2, 5, 59, 59], [58, 59, 2, 0, 59], [58, 1, 2, 3, 4]])
    assert clip.end(ids, 2).tolist() == [3, 1, 0]
    assert clip.end(ids, 59).tolist() == [3, 1, 0]
    assert clip.end(ids, 3).tolist() == [0, 0, 3]


@pytest.mark.parametrize("cls", ["CLIPTextModel", "CLIPTextModelWithProjection"])
@pytest.mark.parametrize("prefixed", [True, False])
def test_opens_what_transformers_saves_and_is_opened_by_it(cls, prefixed, tmp_path):
    import transformers
    from safetensors.torch import load_file, save_file

    peer = _text_peer("1.x", cls)
    peer.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    saved = {k.removeprefix("text_model."): v for k, v in load_file(file).items()}
    if prefixed:
        saved = {k if k == "text_projection.weight" else f"text_model.{k}": v for k, v in saved.items()}
    old = saved | {("text_model." if prefixed else "") + "embeddings.position_ids": torch.arange(12)[None]}
    net = TextEncoder(text_config_from(TEXT["1.x"]), cls.endswith("Projection")).eval()
    net.load_state_dict(published_keys(old))
    assert_close(net(_ids("1.x")).hidden, peer(_ids("1.x")).last_hidden_state, **CLOSE)

    save_file(net.state_dict(), file, metadata={"format": "pt"})  # our names always have the prefix
    again, info = getattr(transformers, cls).from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())
    assert all(torch.equal(a, b) for a, b in zip(again.state_dict().values(), peer.state_dict().values()))


def test_mapping_keys_twice_changes_nothing_and_covers_images():
    for net in (
        TextEncoder(text_config_from(TEXT["1.x"])),
        ImageEncoder(vision_config_from(VISION["1.x"]), True),
    ):
        own = net.state_dict()
        bare = {k.removeprefix("vision_model.").removeprefix("text_model."): v for k, v in own.items()}
        assert set(published_keys(bare)) == set(published_keys(published_keys(bare))) == set(own)
        assert set(published_keys(own | {"text_model.embeddings.position_ids": torch.arange(3)})) == set(own)


def test_builds_without_memory_and_takes_the_weights_as_they_are():
    peer = _clip_peer("2.x")
    d = peer.config.to_dict()
    with torch.device("meta"):
        net = CLIP(text_config_from(d), vision_config_from(d)).eval()
    net.load_state_dict(peer.state_dict(), assign=True)
    ids, x = _ids("2.x"), _images("2.x")
    assert_close(
        net.encode_text(ids), F.normalize(peer.get_text_features(ids).pooler_output, dim=-1), **CLOSE
    )
    assert_close(net.encode_image(x), F.normalize(peer.get_image_features(x).pooler_output, dim=-1), **CLOSE)


# --- token embeddings ---------------------------------------------------------------------------------------


def test_own_embeddings_bit_equal_and_a_blend_is_seen_only_from_its_place_on():
    net, ids = _shaken(TextEncoder(text_config_from(TEXT["1.x"]), True)), _ids("1.x")
    plain = net(ids)
    assert all(torch.equal(a, b) for a, b in zip(net(ids, net.embed(ids)), plain))
    blend = net.embed(ids)
    blend[:, 3] = (blend[:, 3] + net.embed(torch.tensor([[7]]))[0, 0]) / 2
    got = net(ids, blend)
    assert torch.equal(got.hidden[:, :3], plain.hidden[:, :3])  # causal
    assert torch.equal(got.pooled[0], plain.pooled[0])  # that prompt ends before
    assert (got.pooled[1:] - plain.pooled[1:]).abs().amax(dim=1).min() > 1e-3


def test_padding_after_the_end_does_not_change_the_pooled_vector():
    net, ids = _shaken(TextEncoder(text_config_from(TEXT["2.x"]))), _ids("2.x")
    assert_close(net(ids[:1, :3]).pooled, net(ids).pooled[:1], **CLOSE)


# --- losses -------------------------------------------------------------------------------------------------


def _unit(n, d):
    return F.normalize(torch.randn(n, d, dtype=torch.float64), dim=-1)


def _scalar(v):
    return torch.tensor(v, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("n", [1, 2, 7])
@pytest.mark.parametrize("scale", [clip.LOGIT_SCALE, 0.0, 9.0])
def test_clip_loss_of_orthogonal_pairs_and_its_gradient(n, scale):
    e, s = torch.eye(n, 8, dtype=torch.float64), _scalar(scale)
    t = min(math.exp(scale), 100.0)
    with torch.enable_grad():
        loss = clip.clip_loss(e, e, s)
    assert_close(loss.item(), math.log1p((n - 1) * math.exp(-t)), rtol=1e-12, atol=1e-14)
    (grad,) = torch.autograd.grad(loss, s)
    want = 0.0 if scale > clip.MAX_LOGIT_SCALE else -t * (n - 1) * math.exp(-t) / (1 + (n - 1) * math.exp(-t))
    assert_close(grad.item(), want, rtol=1e-10, atol=1e-14)


def test_clip_loss_is_symmetric_matches_its_definition_and_still_learns_at_the_clamp():
    image, text, s = _unit(5, 6), _unit(5, 6), _scalar(clip.MAX_LOGIT_SCALE)
    with torch.enable_grad():
        loss = clip.clip_loss(image, text, s)
    z = 100 * image @ text.T
    want = -(z.log_softmax(0).diagonal() + z.log_softmax(1).diagonal()).sum() / 10
    assert_close(loss, want)
    assert_close(loss, clip.clip_loss(text, image, s))
    assert_close(clip.clip_loss(image, text, s + 5), want)
    assert torch.autograd.grad(loss, s)[0].abs() > 1e-3
    assert math.isclose(math.exp(-clip.LOGIT_SCALE), 0.07)


def test_siglip_loss_by_pairs_and_its_gradients():
    image, text, s, b = _unit(4, 6), _unit(4, 6), _scalar(0.7), _scalar(-1.5)
    with torch.enable_grad():
        loss = clip.siglip_loss(image, text, s, b)
    want, want_s, want_b = 0.0, 0.0, 0.0
    for i in range(4):
        for j in range(4):
            z, dot = 1 if i == j else -1, math.exp(0.7) * float(image[i] @ text[j])
            p = 1 / (1 + math.exp(-z * (dot - 1.5)))
            want, want_s, want_b = (
                want - math.log(p) / 4,
                want_s - (1 - p) * z * dot / 4,
                want_b - (1 - p) * z / 4,
            )
    assert_close(
        [loss.item(), *(g.item() for g in torch.autograd.grad(loss, (s, b)))],
        [want, want_s, want_b],
        rtol=1e-12,
        atol=1e-12,
    )


def test_siglip_at_the_start_hardly_depends_on_the_batch():
    s, b = _scalar(clip.SIGLIP_SCALE), _scalar(clip.SIGLIP_BIAS)
    assert_close((s.exp().item(), b.item()), (10.0, -10.0))
    for n in (1, 2, 64):  # orthogonal pairs: log 2, then log(1 + e^-10) for each wrong text
        e = torch.eye(n, 64, dtype=torch.float64)
        assert_close(
            clip.siglip_loss(e, e, s, b).item(),
            math.log(2) + (n - 1) * math.log1p(math.exp(-10)),
            rtol=1e-12,
            atol=0,
        )
    random = [clip.siglip_loss(_unit(n, 512), _unit(n, 512), s, b).item() for n in (8, 64, 512)]
    assert max(random) - min(random) < 0.2 and abs(random[0] - 10) < 0.5
    assert clip.clip_loss(_unit(512, 512), _unit(512, 512), s) > 2 * clip.clip_loss(
        _unit(8, 512), _unit(8, 512), s
    )  # CLIP's does: log n


def test_starting_weights_are_clips():
    net = CLIP(
        clip.TextConfig(
            hidden_size=64, intermediate_size=256, vocab_size=500, projection_dim=64, num_hidden_layers=8
        ),
        vision_config_from(VISION["2.x"] | {"projection_dim": 64}),
    )
    w, layer = 64**-0.5, "text_model.encoder.layers.3."
    stds = {
        "text_model.embeddings.token_embedding": 0.02,
        "text_model.embeddings.position_embedding": 0.01,
        "text_projection": w,
        "vision_model.embeddings.position_embedding": w,
        layer + "self_attn.k_proj": w,
        layer + "self_attn.out_proj": w / 4,
        layer + "mlp.fc1": w / 2**0.5,
        layer + "mlp.fc2": w / 4,
    }
    for name, std in stds.items():
        assert_close(net.get_submodule(name).weight.std().item(), std, rtol=0.1, atol=0)
    assert all(
        p.eq("norm" in name and name.endswith("weight")).all()
        for name, p in net.named_parameters()
        if "norm" in name or "bias" in name
    )
    assert math.isclose(net.logit_scale.item(), math.log(1 / 0.07), rel_tol=1e-6)


def test_a_tiny_clip_learns_to_match_from_its_starting_weights():
    net = CLIP(text_config_from(TEXT["1.x"]), vision_config_from(VISION["1.x"]))
    x, ids, opt = _images("1.x"), _ids("1.x")[:3], torch.optim.Adam(net.parameters(), 1e-3)
    losses = []
    with torch.enable_grad():
        for _ in range(30):
            opt.zero_grad()
            loss = clip.clip_loss(*net(x, ids), net.logit_scale)
            loss.backward()
            opt.step()
            losses.append(loss.item())
    assert all(p.grad is not None for p in net.parameters())
    assert losses[-1] < 0.05 < 0.5 < losses[0]


# --- noised images ------------------------------------------------------------------------------------------


def test_noised_starts_as_the_plain_encoder_then_reacts_to_the_level_sample_by_sample():
    plain, x = (
        _shaken(ImageEncoder(vision_config_from(VISION["1.x"]), True)).double(),
        _images("1.x").double(),
    )
    noised = NoisedImageEncoder.from_plain(plain).eval()
    t = torch.tensor([0.0, 300.0, 999.0])
    assert all(torch.equal(a, b) for a, b in zip(noised(x, t), plain(x)))
    noised.vision_model.embeddings.class_embedding.add_(1)
    assert not torch.equal(noised(x, t).pooled, plain(x).pooled)  # a copy: the plain one is as it was
    with torch.enable_grad():
        noised(x, t).projected.square().sum().backward()
    for p in noised.level_embedding.linear_2.parameters():  # the start has a slope: training leaves it
        assert p.grad.abs().max() > 0
        p.sub_(p.grad / p.grad.norm())
    whole = noised(x, t).projected
    for i in range(3):
        assert_close(noised(x[i : i + 1], t[i]).projected, whole[i : i + 1])
    assert (noised(x, t.flip(0)).projected - whole)[[0, 2]].abs().amax(dim=1).min() > 1e-3
    assert_close(noised(x, t.flip(0)).projected[1], whole[1])


# --- preprocessing ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("h, w, size", [(96, 96, 32), (61, 90, 24), (90, 61, 24), (20, 20, 32), (32, 32, 32)])
def test_prepare_is_what_transformers_does_but_for_pils_rounding(h, w, size):
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    pixels = np.random.default_rng(0).integers(
        60, 190, (2, h, w, 3), dtype=np.uint8
    )  # no bicubic overshoot leaves 0 … 255
    process = CLIPImageProcessorPil(size={"shortest_edge": size}, crop_size={"height": size, "width": size})
    want = torch.from_numpy(np.stack(process(list(map(Image.fromarray, pixels)))["pixel_values"]))
    got = clip.prepare(torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1, size)
    assert got.shape == want.shape == (2, 3, size, size)
    off = (got - want).abs() * torch.tensor(clip.STD).view(3, 1, 1) * 255  # in grey levels: PIL rounds twice
    assert off.max() < 1.1 and off.mean() < 0.4


def test_prepare_scales_constants_passes_gradients_and_clips_nothing():
    for v in (-1.0, 0.25, 3.0):
        want = (torch.tensor((v + 1) / 2) - torch.tensor(clip.MEAN)) / torch.tensor(clip.STD)
        assert_close(
            clip.prepare(torch.full((1, 3, 40, 30), v), 16), want.view(1, 3, 1, 1).expand(1, 3, 16, 16)
        )
    x = torch.randn(1, 3, 9, 12, dtype=torch.float64, requires_grad=True)
    with torch.enable_grad():
        assert torch.autograd.gradcheck(lambda x: clip.prepare(x, 5), (x,))


# --- configs ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "d",
    [
        {},
        {"text_config": None, "vision_config": None},
        {"text_config": TEXT["2.x"], "vision_config": VISION["2.x"], "projection_dim": 40},
        {
            "text_config": TEXT["2.x"],
            "text_config_dict": TEXT["1.x"],
            "vision_config": VISION["2.x"],
            "vision_config_dict": {"hidden_size": 24},
        },
        {
            "text_config": {"hidden_size": 16, "dropout": 0.5, "top_k": 50, "torch_dtype": "float16"},
            "vision_config_dict": None,
        },
    ],
)
def test_a_whole_clips_config_reads_as_in_transformers(d):
    from transformers import CLIPConfig

    peer = CLIPConfig(**{k: dict(v) if isinstance(v, dict) else v for k, v in d.items()})
    for part, read in (("text", text_config_from), ("vision", vision_config_from)):
        want = getattr(peer, f"{part}_config").to_dict() | (
            {"projection_dim": d["projection_dim"]} if "projection_dim" in d else {}
        )
        got = read(d | {"model_type": "clip", "transformers_version": "4.0"}).model_dump()
        assert got == {k: want[k] for k in got}
        if not d:
            assert read({}) == read({"model_type": "clip"})


# --- refusals -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change, says",
    [
        ({"hidden_act": "relu"}, "'relu'"),
        ({"hidden_act": "gelu_new"}, "'quick_gelu' or 'gelu'"),
        ({"num_attention_heads": 5}, "not a multiple"),
        ({"hidden_size": 0}, "hidden_size: input should be greater than or equal to 1, given 0"),
        ({"hidden_size": "wide\nwider"}, "hidden_size"),
        ({"eos_token_id": [1, 2]}, "eos_token_id"),
        ({"layer_norm_eps": None}, "layer_norm_eps"),
        ({"model_type": "t5"}, "'t5'"),
        ({"model_type": "clip_vision_model"}, "clip_text_model, clip"),
        ({"quantization_config": {"bits": 4}}, "quantised"),
        ({"text_config": 3}, "must be an object"),
        ({"vocab_size": "x" * 999}, "vocab_size"),
    ],
)
def test_refuses_configs(change, says):
    with pytest.raises(BadInput) as e:
        text_config_from(TEXT["1.x"] | change)
    assert says in str(e.value) and "\n" not in str(e.value) and len(str(e.value)) < 200


def test_refuses_what_it_does_not_know_and_misfits():
    with pytest.raises(ValueError, match="nonsense"):
        clip.TextConfig(nonsense=1)  # type: ignore[call-arg]
    with pytest.raises(BadInput, match="patch_size = 32 is larger"):
        vision_config_from({"image_size": 8})
    text, vision = text_config_from(TEXT["1.x"]), vision_config_from(VISION["2.x"])
    with pytest.raises(BadInput, match=r"16 \(text\) and 24 \(image\)"):
        CLIP(text, vision)
    with pytest.raises(BadInput, match="projection_dim"):
        TextEncoder(text_config_from({"projection_dim": None, "hidden_size": 8}), True)


@pytest.mark.parametrize(
    "call, says",
    [
        (
            lambda t, v: t(torch.full((1, 4), 60)),
            "token id 60 is not in this text encoder's vocabulary (accepted: 0 … 59)",
        ),
        (lambda t, v: t(torch.tensor([[1, -1]])), "token id -1"),
        (lambda t, v: t.embed(torch.tensor([[99]])), "token id 99"),
        (lambda t, v: t(torch.zeros(1, 13, dtype=torch.int64)), "1 … 12"),
        (lambda t, v: t(torch.zeros(1, 0, dtype=torch.int64)), "1 … 12"),
        (lambda t, v: t(torch.zeros(4, dtype=torch.int64)), "(4,)"),
        (lambda t, v: t(torch.zeros(1, 4)), "float32"),
        (lambda t, v: t(_ids("1.x"), skip=4), "0 … 3"),
        (lambda t, v: t(_ids("1.x"), skip=-1), "cannot skip -1"),
        (lambda t, v: t(_ids("1.x"), torch.zeros(4, 11, 32)), "(4, 12, 32)"),
        (lambda t, v: v(torch.zeros(1, 3, 17, 16), torch.zeros(1)), "(n, 3, 16, 16)"),
        (lambda t, v: v(torch.zeros(3, 16, 16), torch.zeros(1)), "(n, 3"),
        (lambda t, v: v(torch.zeros(3, 3, 16, 16), torch.zeros(2)), "times for 2 samples"),
        (lambda t, v: clip.prepare(torch.zeros(1, 1, 8, 8), 4), "(1, 1, 8, 8)"),
        (lambda t, v: clip.prepare(torch.zeros(1, 3, 8, 8), 0), "and 0"),
        (
            lambda t, v: clip.clip_loss(torch.zeros(2, 3), torch.zeros(3, 3), torch.tensor(1.0)),
            "(2, 3) and (3, 3)",
        ),
        (
            lambda t, v: clip.siglip_loss(*(torch.zeros(0, 3),) * 2, torch.tensor(1.0), torch.tensor(1.0)),
            "(0, 3)",
        ),
    ],
)
def test_refuses_input(call, says):
    with pytest.raises(BadInput) as e:
        call(
            TextEncoder(text_config_from(TEXT["1.x"])), NoisedImageEncoder(vision_config_from(VISION["1.x"]))
        )
    assert says in str(e.value) and "\n" not in str(e.value)
