"""DiffEdit: its mask by closed forms, its decoding at equal levels against a loop written out, every byte
outside; the command and its replay.
"""

import json
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from scipy import ndimage

import unnoise
from tests.cli.test_cli import bad, run
from unnoise.base.colour import oklab
from unnoise.edit import diffedit
from unnoise.edit.diffedit import SMOOTH, difference, mask_of, otsu, parts, reached, snapped
from unnoise.edit.picture import cells, encoded, read
from unnoise.edit.run import part
from unnoise.errors import BadInput
from unnoise.process.level import corrupt, move
from unnoise.process.noise import seeded
from unnoise.sample import inversion


def left() -> np.ndarray:
    mask = np.zeros((64, 64), np.uint8)
    mask[10:50, 3:29] = 255
    return mask


def test_masks_of_known_maps():
    d = torch.zeros(1, 1, 8, 8)
    d[0, 0, 2, 3] = 4.0
    m = mask_of(d, (8, 8), extremes=0)
    assert m.sum() == 1 and m[2, 3] == 1
    wide = mask_of(d, (64, 64), extremes=0)  # a tent: above half its height where |y| + |x| - |y||x| < 1/2
    assert wide[20, 28] == 1 and 16 < wide.sum() < 64 and wide[:12].sum() == 0
    ramp = torch.arange(100.0).reshape(1, 1, 10, 10)
    assert mask_of(ramp, (10, 10), 0.0, 0.5).sum() == 50 and mask_of(ramp, (10, 10), 0.1, 0.25).sum() == 70
    outlier = ramp.clone()
    outlier[0, 0, 9, 9] = 1e6
    assert mask_of(outlier, (10, 10), 0.0).sum() == 1 and mask_of(outlier, (10, 10), 0.1).sum() == 50
    with pytest.raises(BadInput, match="no difference"):
        mask_of(torch.ones(1, 1, 8, 8), (64, 64))


def test_the_guided_filter_is_its_definition():
    """Window by window, each pixel the mean of what the ridge regressions of its windows say of it."""
    rng = np.random.default_rng(0)
    pixels, d, r = rng.integers(0, 256, (9, 11, 3), dtype=np.uint8), rng.random((9, 11)), 2
    guide = pixels / 255
    around = lambda y, x: (slice(max(y - r, 0), y + r + 1), slice(max(x - r, 0), x + r + 1))
    fits = {}
    for y, x in np.ndindex(9, 11):
        I, p = guide[around(y, x)].reshape(-1, 3), d[around(y, x)].ravel()
        a = np.linalg.solve(
            np.cov(I.T, bias=True) + SMOOTH * np.eye(3), (I * p[:, None]).mean(0) - I.mean(0) * p.mean()
        )
        fits[y, x] = np.array([*a, p.mean() - a @ I.mean(0)])
    want = np.zeros((9, 11))
    for y, x in np.ndindex(9, 11):
        rows, columns = (range(*v.indices(n)) for v, n in zip(around(y, x), (9, 11)))
        want[y, x] = np.mean([fits[i, j] for i in rows for j in columns], 0) @ np.array([*guide[y, x], 1.0])
    torch.testing.assert_close(
        snapped(torch.from_numpy(d)[None, None], pixels, r)[0, 0], torch.from_numpy(want)
    )


def test_parts_are_connected_to_a_peak():
    rng = np.random.default_rng(1)
    for low, high in ((0.4, 0.9), (0.6, 0.95), (0.5, 0.5)):
        d = rng.random((40, 30))
        labels, _ = ndimage.label(d >= low, np.ones((3, 3)))
        want = np.isin(labels, np.unique(labels[d >= high])) & (labels > 0)
        assert np.array_equal(parts(torch.from_numpy(d)[None, None], low, high)[0, 0].numpy(), want)


def test_otsu_divides_where_the_groups_lie_furthest_apart():
    v = np.random.default_rng(3).random(60) ** 3
    between = lambda t: (v < t).mean() * (v >= t).mean() * (v[v < t].mean() - v[v >= t].mean()) ** 2
    t = otsu(torch.from_numpy(v).reshape(1, 1, 6, 10))
    assert between(t) >= max(between(u) for u in np.sort(v)[1:]) - 1e-12
    assert 0.1 < otsu(torch.tensor([0.1] * 90 + [0.8] * 10).reshape(1, 1, 10, 10)) < 0.8


def test_masks_take_the_outline_of_what_they_mean():
    """A coarse, ragged map over a disc, with a weak blot elsewhere: of the picture's edges the disc is found,
    of the map alone it is not.
    """
    y, x = np.mgrid[:64, :64]
    disc = (y - 30) ** 2 + (x - 34) ** 2 < 15**2
    pixels = np.where(disc[..., None], np.uint8([200, 40, 40]), np.uint8([255, 255, 255])).astype(np.uint8)
    rough = torch.from_numpy(np.random.default_rng(0).random((1, 1, 8, 8)))
    blocks = F.interpolate(
        F.adaptive_avg_pool2d(torch.from_numpy(disc[None, None] * 1.0), 8) * (0.6 + 0.8 * rough),
        (64, 64),
        mode="bilinear",
    )
    blocks[0, 0, 2:8, 2:8] += 0.7
    wide = ndimage.binary_dilation(disc)  # by the pixel around it
    iou = lambda m: float(((m > 0) & wide).sum() / ((m > 0) | wide).sum())
    plain, fine = mask_of(blocks, (64, 64)), mask_of(blocks, (64, 64), pixels=pixels)
    assert iou(plain) < 0.85 < 0.95 < iou(fine) and plain[:9, :9].any() and not fine[:9, :9].any(), (
        iou(plain),
        iou(fine),
    )
    assert mask_of(blocks, (128, 96), pixels=pixels).shape == (128, 96)
    assert (
        mask_of(blocks, (64, 64), threshold=1, pixels=pixels).any()
        and mask_of(blocks, (64, 64), threshold=0, pixels=pixels).all()
    )


def test_what_was_drawn_around_a_mask_joins_it_on_plain_ground_alone():
    before = np.full((40, 40, 3), 250, np.uint8)
    before[10:20, 10:20], before[10:20, 22:30] = (
        (200, 30, 30),
        (30, 30, 200),
    )  # what changes, and its neighbour
    mask, after, wide = np.zeros((40, 40)), before.copy(), np.zeros((40, 40), bool)
    mask[10:20, 10:20] = 1
    after[6:24, 6:25] = (40, 160, 60)  # a larger thing, over the neighbour too
    after[2:4, 2:4] = (40, 160, 60)  # near, but not connected
    wide[6:24, 6:25] = True
    wide[10:20, 22:25] = False
    assert np.array_equal(reached(before, after, mask, 8), wide * 1.0)
    wide[:7], wide[:, :7], wide[23:], wide[:, 23:] = False, False, False, False
    assert np.array_equal(reached(before, after, mask, 3), wide * 1.0)  # no further than that
    rough = np.where(np.random.default_rng(0).random((40, 40, 1)) < 0.5, before, np.uint8([20, 90, 20]))
    assert reached(rough.astype(np.uint8), rough.astype(np.uint8), mask, 8).sum() == 100
    assert np.array_equal(reached(before, after, np.ones((40, 40)), 8), np.ones((40, 40)))


@pytest.mark.parametrize("shape", [(64, 64), (150, 101)])
def test_room_lets_the_mask_grow_and_keeps_the_rest(emoji, shape):
    picture = np.full((*shape, 3), 255, np.uint8)
    picture[shape[0] // 3 : shape[0] // 2, shape[1] // 3 : shape[1] // 2] = (200, 30, 30)
    tight, wide = (
        diffedit(emoji, picture, "a blue car", source="a red apple", num_inference_steps=4, room=r)
        for r in (0, 1)
    )
    assert (wide.mask[tight.mask > 0] == 255).all() and tight.nfe == wide.nfe
    for r in (tight, wide):
        assert np.array_equal(r.arrays[0][r.mask == 0], picture[r.mask == 0])
    again = diffedit(emoji, picture, "a blue car", mask=tight.mask, num_inference_steps=4, room=3)
    assert np.array_equal(again.arrays, tight.arrays)  # a mask of one's own is kept to


def test_the_default_model_finds_things_whole(emoji):
    """Three drawn things that become others: most of each is masked, little of the ground."""
    for prompt, other in (("a blue car", "a red car"), ("a frog", "a tent"), ("a red apple", "a car")):
        picture = emoji(prompt, seed=3).arrays[0]
        thing = np.linalg.norm(oklab(picture) - oklab(picture)[0, 0], axis=-1) > 0.1
        r = diffedit(emoji, picture, other, source=prompt, num_inference_steps=2, room=0)
        covered, iou = (
            ((r.mask > 0) & thing).sum() / thing.sum(),
            ((r.mask > 0) & thing).sum() / ((r.mask > 0) | thing).sum(),
        )
        assert covered > 0.8 and iou > 0.6, (prompt, covered, iou)


def test_the_map_is_the_formula(emoji, apple):
    x0, l = encoded(emoji, apple), emoji.schedule.level(0.4)
    x = corrupt(x0.expand(3, -1, -1, -1), seeded([0, 1, 2], "diffedit")(x0.expand(3, -1, -1, -1)), l)
    with torch.no_grad():
        d = [emoji.denoiser([p] * 3)(x, l) for p in ("a car", "an apple")]
    by_hand = sum((a[c] - b[c]).abs() for a, b in zip(*d) for c in range(len(a))) / (3 * x0.shape[1])
    found = difference(emoji, x0, "a car", "an apple", noises=3, noise_level=0.4, space="cells")
    torch.testing.assert_close(found[0, 0], by_hand, atol=1e-5, rtol=1e-4)
    assert difference(emoji, x0, "a car", "an apple", noises=2).shape == (1, 1, 64, 64)


@pytest.mark.parametrize("method, iterations", [("plain", 0), ("fixed-point", 3)])
def test_decoding_blends_at_equal_levels(emoji, apple, method, iterations):
    """The loop written out: after the step to level i + 1 the background is the encoding's x at level i + 1,
    x0 at last.
    """
    how = {"num_inference_steps": 5, "guidance_scale": 3.0}
    r = diffedit(emoji, apple, "a car", mask=left(), strength=0.7, method=method, **how)
    x0, path = encoded(emoji, apple), part(emoji, emoji.request("a car", sampler="ddim", **how), 0.7)
    xs = [s.x for s in inversion(emoji.denoiser([""]), x0, path[::-1], iterations)][::-1]
    m, denoise, x = cells(left() / 255.0, x0), emoji.denoiser(["a car"], guidance=3.0), xs[0]
    with torch.no_grad():
        for i, (a, b) in enumerate(pairwise(path)):
            x = move(x, denoise(x, a), a, b)
            x = m * x + (1 - m) * xs[i + 1]
    inside = left() > 0
    assert np.abs(r.arrays[0][inside].astype(int) - emoji.decode(x)[0][inside]).max() <= 1
    late = emoji.decode(m * x + (1 - m) * xs[-2])[0]  # what an off-by-one background would give differs
    assert np.abs(late.astype(int) - emoji.decode(x)[0]).max() > 1


def test_calls(emoji, apple):
    r = diffedit(emoji, apple, "a car", source="a red apple", num_inference_steps=4)
    assert r.nfe == 2 + 3 + 4  # the map, up (the first move from clean data needs none), down
    assert (
        diffedit(emoji, apple, "a car", mask=left(), num_inference_steps=4, method="fixed-point").nfe
        == 12 + 4
    )


@pytest.mark.parametrize("size", [(33, 90), (150, 101)])
def test_outside_the_mask_every_byte_stays(emoji, size):
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (*size, 4), dtype=np.uint8)
    r = diffedit(emoji, picture, "a car", source="a dog", num_inference_steps=2)
    outside, own = r.mask == 0, read(picture).whole()
    assert (
        r.mask.shape == size and 0 < outside.mean() < 1 and np.array_equal(r.arrays[0][outside], own[outside])
    )
    assert not np.array_equal(r.arrays[0][~outside], own[~outside])


def test_grown_cells_change_the_inside_only(emoji, apple):
    a, b = (
        diffedit(emoji, apple, "a car", mask=left(), num_inference_steps=3, grow=g).arrays[0] for g in (0, 1)
    )
    assert not np.array_equal(a, b) and np.array_equal(b[left() == 0], apple[left() == 0])


def test_pixel_models_with_words(tiny):
    r = diffedit(
        unnoise.load(tiny), np.full((16, 9), 90, np.uint8), "one", source="boot", num_inference_steps=2
    )
    assert r.arrays.shape == (1, 16, 9, 3) and r.mask.max() == 255


def test_bad_input(emoji, apple):
    for options, said in (
        ({"source": "a car"}, "are the same"),
        ({"noises": 0}, "noises"),
        ({"noise_level": 2}, "noise_level"),
        ({"extremes": 0.5}, "extremes"),
        ({"threshold": -1}, "threshold"),
        ({"space": "cell"}, "did you mean 'cells'"),
        ({"grow": -1}, "grow"),
        ({"sampler": "euler"}, "ddim"),
        ({"room": -1}, "room"),
        ({"method": "coupled"}, "single way"),
        ({"strength": 2}, "strength"),
        ({"mask": np.zeros((64, 64), np.uint8)}, "empty"),
        ({"mask": np.ones((9, 64), np.uint8)}, "one size"),
    ):
        with pytest.raises(BadInput, match=said):
            diffedit(emoji, apple, "a car", **{"source": "a dog", "num_inference_steps": 1, **options})


def test_the_command_its_mask_and_its_replay(tmp_path, capfd, apple):
    source = tmp_path / "apple.png"
    Image.fromarray(apple).save(source)
    edit = ("edit", "diffedit", source, "a green apple", "--source", "a red apple", "--steps", 2)
    code, out, _ = run(capfd, *edit, "--show-mask", tmp_path / "m.png", "-o", tmp_path / "e.png", "--json")
    d, mask = json.loads(out), np.asarray(Image.open(tmp_path / "m.png"))
    assert (
        code == 0
        and d["mask"] == str(tmp_path / "m.png")
        and set(np.unique(mask)) == {0, 255}
        and abs(d["changed"] - (mask > 0).mean()) < 1e-3
    )
    assert np.array_equal(np.asarray(Image.open(tmp_path / "e.png"))[mask == 0], apple[mask == 0])
    code, out, _ = run(capfd, "replay", tmp_path / "e.png", "-o", tmp_path / "again.png", "--json")
    assert code == 0 and json.loads(out)["identical"]
    assert (
        run(
            capfd,
            *edit,
            "--room",
            0,
            "--show-mask",
            tmp_path / "m.png",
            "--overwrite",
            "-o",
            tmp_path / "e.png",
        )[0]
        == 0
    )
    code, out, _ = run(
        capfd,
        "edit",
        "diffedit",
        source,
        "a green apple",
        "--mask",
        tmp_path / "m.png",
        "--steps",
        2,
        "-o",
        tmp_path / "f.png",
        "--json",
    )
    assert code == 0 and np.array_equal(
        np.asarray(Image.open(tmp_path / "f.png")), np.asarray(Image.open(tmp_path / "e.png"))
    )
    assert "are the same" in bad(
        capfd, "edit", "diffedit", source, "a cat", "--source", "a cat", "-o", tmp_path / "g.png"
    )
    assert "original" in bad(capfd, *edit, "--show-mask", source, "-o", tmp_path / "g.png")
    assert not (tmp_path / "g.png").exists()
