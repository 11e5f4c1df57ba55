"""lab/from_scratch: every layer against torch, nothing imported but the standard library, the page's code and
numbers true.
"""

import ast
import json
import math
import operator
import random
import re
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.testing import assert_close

from lab.from_scratch import compare, convert, data, diffusion, grad, matmul, measure, nn, png, report, run
from lab.from_scratch.grad import Var
from lab.from_scratch.tensor import BadInput, Tensor, broadcast, full, tensor
from unnoise.process import predict
from unnoise.process.level import Level
from unnoise.sample import SAMPLERS

HERE = Path(run.__file__).parent
ROOT = HERE.parents[1]
OWN = {f"lab.from_scratch.{f.stem}" for f in HERE.glob("*.py")}
IMPURE = {"compare.py": "torch", "convert.py": "sklearn"}  # what they may import, inside functions
patient = settings(deadline=None, max_examples=60)  # a busy machine is no failure
LENGTH = st.integers(0, 3)
SHAPE = st.lists(LENGTH, max_size=4).map(tuple)


def filled(shape, seed=0, low=-2.0, high=2.0):
    rng = Random(seed)
    return Tensor([rng.uniform(low, high) for _ in range(math.prod(shape))], shape)


def to_torch(t):
    return torch.tensor(t.data, dtype=torch.float64).reshape(t.shape)


def same(ours, theirs):
    assert ours.shape == tuple(theirs.shape)
    assert_close(to_torch(ours), theirs, rtol=1e-10, atol=1e-12)


# --- nothing but the standard library ---


def imports(file):
    """(module, whether it is imported inside a function) of every import statement."""
    tree = ast.parse(file.read_text())
    inside = {id(n) for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) for n in ast.walk(f)}
    for node in ast.walk(tree):
        names = (
            [a.name for a in node.names]
            if isinstance(node, ast.Import)
            else [node.module]
            if isinstance(node, ast.ImportFrom)
            else []
        )
        yield from ((name, id(node) in inside) for name in names)


@pytest.mark.parametrize("file", sorted(HERE.glob("*.py")), ids=lambda f: f.name)
def test_modules_import_the_standard_library_and_each_other(file):
    for name, inside in imports(file):
        known = name.partition(".")[0] in sys.stdlib_module_names or name == "lab.from_scratch" or name in OWN
        assert known or (inside and name.partition(".")[0] == IMPURE.get(file.name)), name


def test_without_any_package_a_small_study_runs_and_says_that_torch_is_missing(tmp_path):
    code = f"""if True:
        import sys; sys.path.insert(0, {str(ROOT)!r})
        from lab.from_scratch import run
        run.QUICK = run.Settings(4, 1, 2, 5, 2, 1, 2, 2)
        code = run.main(["--quick", "--out", {str(tmp_path)!r}])
        assert not set(sys.modules) & {{"torch", "numpy", "sklearn", "PIL"}}
        sys.exit(code)"""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert (
        "torch is not installed" in done.stderr and "| einsum |" in done.stdout and "| @ |" not in done.stdout
    )
    assert {f.name for f in tmp_path.iterdir()} == {"points.png", "digits.png", "result.json"}


# --- tensors ---


@patient
@given(SHAPE, SHAPE)
def test_shapes_broadcast_as_torch_broadcasts_them_or_not_at_all(a, b):
    try:
        want = tuple(torch.broadcast_shapes(a, b))
    except RuntimeError:
        with pytest.raises(BadInput, match="do not broadcast: axis -") as e:
            broadcast(a, b)
        assert str(a) in str(e.value) and str(b) in str(e.value) and "\n" not in str(e.value)
    else:
        assert broadcast(a, b) == want


@st.composite
def partners(draw):
    """Two shapes that broadcast: each keeps, flattens to 1 or drops axes of a common one."""
    common = draw(SHAPE)
    one = lambda: tuple(n if draw(st.booleans()) else 1 for n in common)[draw(st.integers(0, len(common))) :]
    return one(), one()


@patient
@given(partners(), st.sampled_from([operator.add, operator.sub, operator.mul, operator.truediv]))
def test_arithmetic_of_broadcast_shapes(shapes, f):
    a, b = filled(shapes[0], 1), filled(shapes[1], 2, 0.5)
    same(f(a, b), f(to_torch(a), to_torch(b)))


@pytest.mark.parametrize("f", [operator.add, operator.sub, operator.mul, operator.truediv])
def test_numbers_on_either_side(f):
    a = filled((2, 3), 1, 0.5)
    same(f(a, 2.5), f(to_torch(a), 2.5))
    same(f(2.5, a), f(2.5, to_torch(a)))
    same(-(a**3), -(to_torch(a) ** 3))
    with pytest.raises(TypeError):
        f(a, "2.5")


@patient
@given(SHAPE, st.randoms(use_true_random=False))
def test_transpose_sum_and_nested_lists(shape, rng):
    a, axes = filled(shape), list(range(len(shape)))
    rng.shuffle(axes)
    if axes:
        same(a.transpose(*axes), to_torch(a).permute(axes))
    for axis in range(-len(shape), len(shape)):
        for keep in (False, True):
            same(a.sum(axis, keep), to_torch(a).sum(axis, keep))
    same(a.sum(), to_torch(a).sum())
    assert a.tolist() == to_torch(a).tolist()
    if a.data:
        same(tensor(a.tolist()), to_torch(a))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: tensor([[1, 2], [3]]),
        lambda: tensor([1, [2]]),
        lambda: tensor("12"),
        lambda: Tensor([1, 2, 3], (2, 2)),
        lambda: full((2, 3), 1.0).reshape(4),
        lambda: full((2, 3), 1.0).sum(2),
        lambda: full((2, 3), 1.0).transpose(0, 0),
        lambda: full((2, 3), 1.0).expand((3,)),
        lambda: full((2,), 1.0).rows(),
    ],
)
def test_what_is_no_tensor_is_told_in_one_line(wrong):
    with pytest.raises(BadInput) as e:
        wrong()
    assert "\n" not in str(e.value)


# --- the matrix product ---


@pytest.mark.parametrize("stage", matmul.STAGES)
@patient
@given(LENGTH, LENGTH, LENGTH)
def test_every_stage_is_the_matrix_product(stage, n, k, m):
    a, b = filled((n, k), 1), filled((k, m), 2)
    same(matmul.STAGES[stage](a, b), to_torch(a) @ to_torch(b))


@pytest.mark.parametrize("stage", matmul.STAGES)
def test_every_stage_refuses_what_does_not_fit(stage):
    for a, b in (((2, 3), (2, 3)), ((2, 3), (3,))):
        with pytest.raises(BadInput):
            matmul.STAGES[stage](filled(a), filled(b))


def test_the_stages_in_torch_are_the_matrix_product():
    a, b = filled((5, 5), 1), filled((5, 5), 2)
    assert list(compare.torch_stages())[:-1] == list(matmul.STAGES)
    for f in compare.torch_stages().values():
        assert_close(f(to_torch(a), to_torch(b)), to_torch(a) @ to_torch(b))


@patient
@given(st.data())
def test_einsum_of_any_letters(draw):
    left, right = (draw.draw(st.text("abc", max_size=3)) for _ in range(2))
    assume(left or right)
    out = draw.draw(st.permutations(sorted(set(left + right))))[: draw.draw(st.integers(0, 3))]
    length = {c: draw.draw(st.integers(1, 3)) for c in "abc"}
    a, b = filled([length[c] for c in left], 1), filled([length[c] for c in right], 2)
    formula = f"{left},{right}->{''.join(out)}"
    same(matmul.einsum(formula, a, b), torch.einsum(formula, to_torch(a), to_torch(b)))


@pytest.mark.parametrize(
    "formula", ["ij,jk", "ijjk->ik", "ij,jk->il", "ij,jk->ii", "i,jk->ik", "ij,ij->ij", "i1,1k->ik"]
)
def test_einsum_refuses_other_formulas(formula):
    with pytest.raises(BadInput):
        matmul.einsum(formula, filled((2, 3)), filled((3, 4)))


# --- derivatives ---

MAPS = {
    "exp": (lambda v: v.exp(), torch.exp),
    "log": (lambda v: v.log(), torch.log),
    "tanh": (lambda v: v.tanh(), torch.tanh),
    "relu": (lambda v: v.relu(), torch.relu),
    "silu": (lambda v: v.silu(), torch.nn.functional.silu),
    "cube": (lambda v: v**3, lambda v: v**3),
    "root": (lambda v: v**0.5, lambda v: v**0.5),
    "minus": (lambda v: -v, lambda v: -v),
    "mean": (lambda v: v.mean(), torch.mean),
    "sum": (lambda v: v.sum(), torch.sum),
    "sum 0": (lambda v: v.sum(0), lambda v: v.sum(0)),
    "sum 1": (lambda v: v.sum(1, keep=True), lambda v: v.sum(1, keepdim=True)),
    "reshape": (lambda v: v.reshape(2, 6), lambda v: v.reshape(2, 6)),
    "transpose": (lambda v: v.transpose(), lambda v: v.permute(2, 1, 0)),
    "cycle": (lambda v: v.transpose(1, 2, 0), lambda v: v.permute(1, 2, 0)),
    "number": (lambda v: 2 - 3 / (v + 1) + v / 2, lambda v: 2 - 3 / (v + 1) + v / 2),
    "twice": (lambda v: v * v + v, lambda v: v * v + v),
}


def agree(f, g, *values):
    """f of Vars and g of torch's tensors: the same values, and the same gradients of a weighted sum of
    them.
    """
    ours, theirs = [Var(v) for v in values], [to_torch(v).requires_grad_() for v in values]
    y, z = f(*ours), g(*theirs)
    same(y.value, z.detach())
    w = filled(y.value.shape, 9)
    want = torch.autograd.grad((z * to_torch(w)).sum(), theirs)
    for a, b in zip(grad.grad((y * w).sum(), ours), want):
        same(a, b)


@pytest.mark.parametrize("name", MAPS)
def test_gradient_of_every_operation(name):
    low = 0.5 if name in ("log", "root", "number") else -2.0
    agree(*MAPS[name], filled((2, 3, 2), 3, low))


@patient
@given(partners(), st.sampled_from([operator.add, operator.sub, operator.mul, operator.truediv]))
def test_gradients_are_summed_over_what_was_broadcast(shapes, f):
    agree(f, f, filled(shapes[0], 1), filled(shapes[1], 2, 0.5))


@patient
@given(LENGTH, LENGTH, LENGTH)
def test_gradient_of_the_matrix_product(n, k, m):
    agree(operator.matmul, operator.matmul, filled((n, k), 1), filled((k, m), 2))


def test_silu_of_large_numbers():
    agree(*MAPS["silu"], tensor([-800.0, -40.0, 0.0, 40.0, 800.0]))


def test_what_is_not_used_has_gradient_zero_and_constants_are_not_on_the_tape():
    u, v, c = Var(filled((2,))), Var(filled((3, 2))), grad.lift([[1.0, 2.0]])
    y = (u * c).sum()
    assert grad.grad(y, [v, c])[0].tolist() == [[0.0, 0.0]] * 3
    assert not (c * 2).tracked and [w for w, _ in (u * c).inputs] == [u]
    with pytest.raises(BadInput):
        grad.grad(u * c, [u])


def test_a_long_tape_needs_no_deep_stack():
    v = u = Var(tensor(1.0))
    for _ in range(3 * sys.getrecursionlimit()):
        v = v + u
    assert grad.grad(v, [u])[0].tolist() == 1.0 + 3 * sys.getrecursionlimit()


def test_a_diamond_is_walked_once_a_node():
    v = u = Var(tensor(1.0))
    for _ in range(200):
        v = v + v  # 2^200 ways from v to u
    assert grad.grad(v, [u])[0].tolist() == 2.0**200


# --- the network and its optimiser ---

SIZES = [5, 4, 6, 3]


def network(seed=0):
    """Parameters without zeros, and torch's modules with the same."""
    params = [Var(filled(p.value.shape, seed + i, -1, 1)) for i, p in enumerate(nn.init(SIZES, Random(0)))]
    layers = []
    for w, b in zip(params[::2], params[1::2]):
        layers += [torch.nn.Linear(*w.value.shape, dtype=torch.float64), torch.nn.SiLU()]
        layers[-2].weight.data, layers[-2].bias.data = to_torch(w.value).T.contiguous(), to_torch(b.value)
    return params, torch.nn.Sequential(*layers[:-1])


def match(params, net, read=lambda p: p.detach()):
    for ours, theirs in zip(params, net.parameters()):
        value = ours.value if isinstance(ours, Var) else ours
        same(value, read(theirs).T if theirs.ndim == 2 else read(theirs))


def test_the_network_and_its_gradients():
    params, net = network()
    x, y = filled((7, 5), 20), filled((7, 3), 21)
    out = nn.mlp(params, x)
    same(out.value, net(to_torch(x)).detach())
    ((net(to_torch(x)) - to_torch(y)) ** 2).mean().backward()
    match(grad.grad(((out - y) ** 2).mean(), params), net, lambda p: p.grad)


def test_the_first_guess_is_zero_and_the_layers_keep_the_size_of_what_passes():
    params = nn.init([200, 300, 300, 10], Random(0))
    assert set(nn.mlp(params, filled((2, 200))).value.data) == {0.0}
    std = [math.sqrt(sum(v * v for v in p.value.data) / len(p.value.data)) for p in params[::2]]
    assert std == pytest.approx([math.sqrt(2 / 200), math.sqrt(2 / 300), 0], rel=0.01)
    assert all(set(p.value.data) == {0.0} for p in params[1::2])


def test_adams_steps():
    params, net = network()
    adam = nn.Adam(params, beta1=0.8, beta2=0.95)
    theirs = torch.optim.Adam(net.parameters(), betas=(0.8, 0.95))
    for k in range(12):
        lr = 0.1 / (k + 1)
        theirs.param_groups[0]["lr"] = lr
        grads = [filled(p.value.shape, 100 * k + i) for i, p in enumerate(params)]
        for g, p in zip(grads, net.parameters()):
            p.grad = to_torch(g).T if p.ndim == 2 else to_torch(g)
        adam.step(grads, lr)
        theirs.step()
        match(params, net)


# --- diffusion ---


def test_levels_lie_on_the_unit_circle_and_a_path_ends_in_data():
    us = diffusion.path(7)
    assert us[0] == diffusion.TOP and us[-1] == 0 and us == sorted(us, reverse=True) and len(us) == 8
    assert all(math.hypot(*diffusion.level(u)) == pytest.approx(1, abs=1e-15) for u in us)
    assert diffusion.level(0) == (1, 0)
    with pytest.raises(BadInput):
        diffusion.path(0)


def levels(us):
    return [Level(*(torch.tensor(v, dtype=torch.float64) for v in diffusion.level(u))) for u in us]


@pytest.mark.parametrize(("name", "eta"), [("ddim", 0.0), ("ddim", 0.6), ("ddim", 1.0), ("ddpm", 1.0)])
def test_the_sampler_is_the_librarys(name, eta):
    """Every State, from one eps function and one stream of noise."""
    params, calls, us = (
        [Var(filled(p.value.shape, i, -1, 1)) for i, p in enumerate(nn.init([6, 8, 2], Random(0)))],
        [],
        diffusion.path(9),
    )
    eps = diffusion.network(params, [[]] * 5)
    x, ours, theirs = filled((5, 2), 3), Random(4), Random(4)

    def denoise(x, l):
        u = 2 / math.pi * math.atan2(l.sigma, l.alpha)
        calls.append(u)
        e = to_torch(eps(Tensor(x.flatten().tolist(), (5, 2)), u))
        return predict.solve_x0(predict.eps, x, e, l)

    noise = lambda like, a, b: to_torch(diffusion.normal(tuple(like.shape), theirs))
    options = {"eta": eta} if name == "ddim" else {}
    want = [state.x for state in SAMPLERS[name](denoise, to_torch(x), levels(us), noise, **options)]
    got = list(diffusion.sample(eps, x, us, ours, eta))
    assert len(got) == len(want) == 10 and len(calls) == 9
    for a, b in zip(got, want):
        assert_close(to_torch(a), b, rtol=1e-8, atol=1e-8)
    assert ours.random() == theirs.random(), "as many numbers drawn"


def test_training_is_torchs(monkeypatch):
    """Eight steps from the same numbers: the losses and the parameters of torch's autograd and Adam."""
    monkeypatch.setattr(sys.modules[__name__], "SIZES", [2 + 2 * diffusion.WAVES, 5, 4, 2])
    draw = data.points_of(data.CURVES["moons"])
    params, net = network()
    losses = list(diffusion.train(params, draw, 8, 6, Random(1)))
    assert_close(losses, twin(net, draw, 8, 6, Random(1)), rtol=1e-9, atol=0)
    match(params, net)


def twin(net, draw, steps, batch, rng):
    adam, losses = torch.optim.Adam(net.parameters()), []
    for k in range(steps):
        x0 = to_torch(draw(batch, rng)[0])
        u = torch.tensor(
            [diffusion.TOP * (i + rng.random()) / batch for i in range(batch)], dtype=torch.float64
        )[:, None]
        eps = to_torch(diffusion.normal((batch, 2), rng))
        alpha, sigma = (math.pi * u / 2).cos(), (math.pi * u / 2).sin()
        x = alpha * x0 + sigma * eps
        waves = [f(math.pi * j * u) for j in range(1, diffusion.WAVES + 1) for f in (torch.sin, torch.cos)]
        loss = ((sigma * x + alpha * net(torch.cat([x, *waves], 1)) - eps) ** 2).mean()
        adam.param_groups[0]["lr"] = 1e-2 * (1 + math.cos(math.pi * k / steps)) / 2
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(loss.item())
    return losses


def test_what_is_learnt_is_where_the_data_are():
    """Data at two points: what is drawn lies at the one or the other, at each about as often."""

    def draw(n, rng):
        return Tensor([v for _ in range(n) for v in [rng.choice((-1.0, 1.0))] * 2], (n, 2)), [[]] * n

    params, rng = nn.init([2 + 2 * diffusion.WAVES, 16, 16, 2], Random(0)), Random(0)
    losses = list(diffusion.train(params, draw, 250, 32, rng))
    assert sum(losses[-25:]) < 0.7 * sum(losses[:25])
    *_, x = diffusion.sample(
        diffusion.network(params, [[]] * 60), diffusion.normal((60, 2), rng), diffusion.path(10), rng
    )
    assert sum(math.dist([abs(v) for v in p], (1, 1)) < 0.3 and p[0] * p[1] > 0 for p in x.rows()) >= 50
    assert 18 <= sum(p[0] > 0 for p in x.rows()) <= 42


# --- data ---


@pytest.mark.parametrize("name", data.CURVES)
def test_a_point_of_a_curve_is_found_again_and_the_nearest_is_the_nearest(name):
    curve, rng = data.CURVES[name], Random(0)
    for u in (0.0, 0.1, 0.25, 0.49, 0.51, 0.75, 0.99):
        assert curve.project(curve.at(u)) == pytest.approx((0, u), abs=1e-7)
    dense = [curve.at(i / 4000) for i in range(4000)]
    for _ in range(40):
        p = rng.uniform(-2, 2), rng.uniform(-2, 2)
        distance, u = curve.project(p)
        assert distance == pytest.approx(min(math.dist(p, q) for q in dense), abs=2e-3)
        assert 0 <= u < 1 and math.dist(p, curve.at(u)) == pytest.approx(distance, abs=1e-6)


@pytest.mark.parametrize("name", data.CURVES)
def test_data_lie_about_their_curve_and_everywhere_on_it(name):
    curve = data.CURVES[name]
    points = curve.points(4000, Random(0))
    assert measure.off(curve, points) == pytest.approx(
        data.SPREAD * math.sqrt(2 / math.pi), rel=0.1
    )  # of a half normal
    assert (
        measure.uneven(curve, points) < 0.06
        and measure.off(curve, [curve.at(i / 50) for i in range(50)]) < 1e-9
    )


def test_the_digits_are_scikit_learns():
    assert data.DIGITS.read_text() == convert.text()


def test_the_halves_of_the_digits_share_nothing():
    learnt, held = data.digits()
    assert sorted(learnt.labels) == sorted(held.labels) == sorted([*range(10)] * (convert.EACH // 2))
    assert not {*map(tuple, learnt.pixels)} & {*map(tuple, held.pixels)}
    assert {v for row in learnt.pixels for v in row} <= {i / 8 - 1 for i in range(17)}
    assert data.pick(held, 2).labels == [*range(10)] * 2
    with pytest.raises(BadInput):
        data.pick(held, 1000)


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.replace("0,0,0,5", "0,0,0,17", 1),
        lambda t: t.replace("0,0,0,5", "0,0,0,-1", 1),
        lambda t: t.replace("0,0,0,5", "10,0,0,5", 1),
        lambda t: t.replace(",", ";", 1),
        lambda t: "label\n" + t,
        lambda t: "\n" + t,
    ],
)
def test_a_broken_file_of_digits_names_its_line(tmp_path, change):
    file = tmp_path / "digits.csv"
    file.write_text(change(data.DIGITS.read_text()))
    with pytest.raises(BadInput, match="line 1: ") as e:
        data.digits(file)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("content", [None, b"\xff\xfe", b"", b"0" + b",0" * 64 + b"\n"])
def test_a_file_that_holds_no_digits(tmp_path, content):
    file = tmp_path / "digits.csv"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(BadInput):
        data.digits(file)


# --- measures ---


def test_measures_of_what_is_known():
    ring = data.CURVES["ring"]
    even, half = (
        [ring.at((i + 0.5) / 240) for i in range(240)],
        [ring.at((i + 0.5) / 480) for i in range(240)],
    )
    assert measure.uneven(ring, even) == pytest.approx(0) and measure.uneven(ring, half) == pytest.approx(0.5)
    assert measure.off(ring, [(2, 0), (0, 0.5)]) == pytest.approx(0.75)
    learnt, held = data.digits()
    assert measure.far(held.pixels, held.pixels) == 0 and measure.read_as(held, held) == 1
    assert (
        measure.copied(learnt.pixels, learnt.pixels, held.pixels) == 1
        and measure.copied(held.pixels, learnt.pixels, held.pixels) == 0
    )


def test_energy_distance():
    a, b = filled((30, 3), 1), filled((20, 3), 2, 0)
    u, v = to_torch(a), to_torch(b)
    inside = lambda t: torch.cdist(t, t).sum() / (len(t) * (len(t) - 1))
    assert measure.energy(a.rows(), b.rows()) == pytest.approx(
        float(2 * torch.cdist(u, v).mean() - inside(u) - inside(v)), rel=1e-9
    )


def test_shuffling_keeps_columns_and_labels():
    learnt, _ = data.digits()
    mixed = measure.shuffled_digits(learnt, Random(0))
    of = lambda d, label: [p for p, l in zip(d.pixels, d.labels) if l == label]
    for label in range(10):
        a, b = of(learnt, label), of(mixed, label)
        assert a != b and [sorted(c) for c in zip(*a)] == [sorted(c) for c in zip(*b)]


# --- pictures ---


def test_a_png_opens_as_it_was(tmp_path):
    rng = Random(0)
    picture = [[rng.randrange(256) for _ in range(7)] for _ in range(5)]
    png.save(tmp_path / "a.png", png.encode(picture))
    with Image.open(tmp_path / "a.png") as opened:
        opened.load()
        assert opened.mode == "L" and [list(opened.tobytes()[i : i + 7]) for i in range(0, 35, 7)] == picture


def test_a_file_is_there_whole_or_not_at_all(tmp_path, monkeypatch):
    def full_disk(self, target):
        raise OSError("no space")

    monkeypatch.setattr(Path, "replace", full_disk)
    with pytest.raises(OSError, match="no space"):
        png.save(tmp_path / "a.png", b"1")
    assert list(tmp_path.iterdir()) == []


def test_digits_and_points_are_drawn_where_they_belong():
    ink = png.digit([1.0] + [-1.0] * 62 + [9.0], scale=2)
    assert (
        len(ink) == len(ink[0]) == 16
        and ink[0][0] == ink[1][1] == ink[15][15] == 0
        and ink[0][2] == ink[2][0] == 255
    )
    dots = png.scatter([(0.5, 0.9), (5, 5), (-1.9, 0)], side=40, reach=1.0)
    dark = {(r, c) for r, row in enumerate(dots) for c, v in enumerate(row) if v < 255}
    assert dark == {(r, c) for r in (2, 3) for c in (30, 31)} or dark == {
        (r, c) for r in (1, 2) for c in (30, 31)
    }
    page = png.grid([[dots, dots], [dots, dots]], gap=3)
    assert len(page) == len(page[0]) == 2 * 40 + 3 * 3 and page[3 + 40 + 3][3] == dots[0][0]


# --- the command ---


def command(*arguments, timeout=300):
    return subprocess.run(
        [sys.executable, str(HERE / "run.py"), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def test_a_quick_run_ends_in_time_with_tables_and_pictures(tmp_path):
    done = command("--quick", "--json", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["seconds"] < 60
    assert result == json.loads((tmp_path / "result.json").read_text())
    assert list(result["matmul"]["torch"]) == [*matmul.STAGES, "@"] and list(
        result["matmul"]["lists"]
    ) == list(matmul.STAGES)
    assert [len(result[name]) for name in ("ring", "moons", "digits")] == [1, 1, 1]
    assert all(
        math.isfinite(v)
        for name in ("ring", "moons", "digits")
        for who in result[name][0].values()
        for v in who.values()
    )
    for name in ("points.png", "digits.png"):
        with Image.open(tmp_path / name) as picture:
            picture.verify()


@pytest.mark.parametrize(
    "wrong", [["--seeds", "0"], ["--seeds", "many"], ["--nonsense"], ["more"], ["--qui"]]
)
def test_bad_input_is_told_in_one_line(wrong):
    done = command(*wrong)
    assert done.returncode == 2 and not done.stdout
    assert re.fullmatch(r"error: .+\n", done.stderr) and wrong[-1] in done.stderr


def test_a_folder_that_cannot_be_made_is_told_before_anything_is_trained(tmp_path):
    (tmp_path / "file").write_text("")
    done = command("--quick", "--out", tmp_path / "file")
    assert done.returncode == 2 and re.fullmatch(r"error: .*file.*\n", done.stderr)


def test_interrupted(monkeypatch, tmp_path, capsys):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "study", interrupt)
    assert run.main(["--out", str(tmp_path)]) == 130 and capsys.readouterr().err == "interrupted\n"


def test_tables_go_between_the_marks_of_a_page(tmp_path):
    page = tmp_path / "README.md"
    report.insert(page, "new")
    assert not page.exists()
    marks = report.START, report.END
    for before, after in (
        ("old".join(marks), "new".join(marks)),
        ("no marks", "no marks"),
        (marks[0], marks[0]),
    ):
        page.write_text(before)
        report.insert(page, "new")
        assert page.read_text() == after


# --- the page ---

PAGE = (HERE / "README.md").read_text() if (HERE / "README.md").exists() else ""
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_the_pages_code_runs():
    assert len(BLOCKS) >= 6
    world = {}
    random.seed(0)
    for block in BLOCKS:
        exec(block, world)  # the page is ours


def test_the_functions_on_the_page_are_those_of_the_modules():
    source = "\n".join(f.read_text() for f in HERE.glob("*.py"))
    shown = [
        part for block in BLOCKS for part in re.findall(r"^def .*\n(?:(?:    .*)?\n)+", block, re.MULTILINE)
    ]
    assert len(shown) >= 4
    for part in shown:
        assert part.strip() in source, part


def test_the_tables_of_the_page_are_those_of_a_run_with_three_seeds():
    result = json.loads((HERE / "result.json").read_text())
    assert result["settings"] == run.Settings()._asdict() and result["settings"]["seeds"] == 3
    assert report.tables(result) in PAGE


def test_what_the_page_concludes_follows_from_its_numbers():
    result = json.loads((HERE / "result.json").read_text())
    mean = lambda name, who, key: sum(r[who][key] for r in result[name]) / len(result[name])
    assert mean("ring", "DDIM", "off") < 1.1 * mean("ring", "fresh data", "off")
    assert 1.8 < mean("moons", "DDIM", "off") / mean("moons", "fresh data", "off") < 2.2
    assert 0.72 < mean("digits", "DDPM", "read") < 0.8
    assert abs(mean("digits", "DDPM", "far") - mean("digits", "columns shuffled", "far")) < 0.05
    lists, torchs = (result["matmul"][side] for side in ("lists", "torch"))
    assert (
        2700 < lists["three loops"][0] / torchs["@"][0] < 3300
        and 75 < torchs["three loops"][0] / lists["three loops"][0] < 90
    )
