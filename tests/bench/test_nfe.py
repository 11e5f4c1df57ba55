"""The measuring stand of `bench.nfe`: it measures right, and the default holds on the ring and on mixtures
left out.
"""

from __future__ import annotations

import json
import math

import pytest
import torch

from bench import nfe
from unnoise.denoiser.oracle import Gaussian, Mixture
from unnoise.process.level import level
from unnoise.sample import SAMPLERS, last

STRONG = {  # the peers that were best on most mixtures, and that take no time
    (
        "diffusers",
        "UniPCMultistep(solver_order=2, solver_type=bh2, predict_x0=True, lower_order_final=True)",
        "exponential",
    ),
    ("diffusers", "DPMSolverMultistep(solver_order=3, lower_order_final=False)", "exponential"),
    ("diffusers", "DEISMultistep(solver_order=3, lower_order_final=True)", "exponential"),
    ("azula", "zEAB(order=3)", "VE 0.01"),
    ("azula", "xEAB(order=4)", "VE 0.01"),
}
strong = lambda e: e.default or (e.who, e.sampler, e.grid) in STRONG
# Neither of these was used to choose the default.
LEFT_OUT = {
    "two": Mixture([[-1.0], [1.0]], 0.2, [0.4, 0.6]),
    "triangle": Mixture([[0.9, 0.1], [-0.6, 0.7], [-0.3, -0.9]], 0.2, [0.5, 0.3, 0.2]),
}


def entry(who: str, sampler: str, grid: str) -> nfe.Entry:
    return next(
        e for e in {"unnoise": nfe.ours, **nfe.PEERS}[who]() if (e.sampler, e.grid) == (sampler, grid)
    )


def end(e: nfe.Entry, mixture: Mixture, n: int, x: torch.Tensor) -> torch.Tensor:
    return e.run(nfe.Exact(mixture), x * math.hypot(1, nfe.TOP), n)


def test_fine_solution_is_the_exact_flow_of_a_gaussian():
    g = Gaussian([0.3, -1.0], [0.04, 1.5])
    x, top = nfe.start(g, 16), level(1 / math.hypot(1, nfe.TOP), nfe.TOP / math.hypot(1, nfe.TOP))
    torch.testing.assert_close(nfe.flow(g, x, 600), g.flow(x, top, level(1.0, 0.0)), atol=1e-8, rtol=0)


# Pairs that are one method under two names: a wrong level, start or scale anywhere in the stand would show
# here.
@pytest.mark.parametrize(
    "peer, own",
    [
        (("diffusers", "DDIM", "trailing"), ("ddim", "trailing")),
        (("diffusers", "EulerDiscrete", "trailing"), ("euler", "trailing")),
        (("diffusers", "EulerDiscrete", "karras"), ("euler", "karras")),
        (("diffusers", "HeunDiscrete", "karras"), ("heun", "karras")),
        (
            ("diffusers", "DPMSolverMultistep(solver_order=2, lower_order_final=False)", "exponential"),
            ("dpmpp_2m", "logsnr"),
        ),
        (
            (
                "diffusers",
                "UniPCMultistep(solver_order=2, solver_type=bh2, predict_x0=True, lower_order_final=True)",
                "karras",
            ),
            ("unipc", "karras"),
        ),
    ],
)
def test_peers_and_ours_agree_where_they_are_one_method(peer, own):
    ring = Mixture.ring()
    x = nfe.start(ring, 32)
    ours = end(entry("unnoise", *own), ring, 10, x)
    # Their tables are float32; Heun's weight is another where sigma falls more than 20-fold, which it does
    # not here.
    torch.testing.assert_close(end(entry(*peer), ring, 10, x), ours, atol=3e-5, rtol=0)


def test_smalldiffusion_and_azula_agree_with_ours_on_their_own_levels():
    ring = Mixture.ring()
    x, exact = nfe.start(ring, 32) * math.hypot(1, nfe.TOP), nfe.Exact(ring)
    theirs = entry("azula", "Euler", "scaled_linear").run(exact, x, 12)
    levels = [nfe.SD.level(u) for u in torch.linspace(1, 0, 13, dtype=torch.float64)]
    torch.testing.assert_close(
        theirs, last(SAMPLERS["ddim"](ring, x * levels[0].alpha, levels)), atol=1e-9, rtol=0
    )
    sigmas = [float(nfe.SD.sigmas[i] / nfe.SD.alphas[i]) for i in (999, 749, 499, 249)]
    levels = [level(1.0, s) for s in (*sigmas, 0.0)]
    theirs = entry("smalldiffusion", "samples(gam=1.0)", "LDM to 0").run(exact, x, 4)
    torch.testing.assert_close(theirs, last(SAMPLERS["ddim"](ring, x, levels)), atol=1e-4, rtol=0)


def test_counted_calls_never_exceed_the_budget_and_one_row_is_the_default():
    ring = Mixture.ring()
    out = nfe.table(ring, (5,), n=8, peers=False)
    assert sum(r["default"] for r in out["rows"]) == 1 and out["ours_default"]["5"]["calls"] == 5
    assert all(0 < r["calls"] <= 5 for r in out["rows"])
    assert {r["calls"] for r in out["rows"] if r["sampler"] == "heun"} == {5}


@pytest.mark.parametrize(
    "name, counts", [("ring", (5, 8, 10, 15, 20)), ("triangle", (5, 8, 20)), ("two", (5, 15, 20))]
)
def test_default_is_not_behind_strong_peers(name, counts):
    mixture = {"ring": Mixture.ring(), **LEFT_OUT}[name]
    out = nfe.table(mixture, counts, n=256, only=strong)
    assert len(out["rows"]) == len(counts) * (len(STRONG) + 1)
    assert all(v <= 1 for v in out["ratio"].values()), out["ratio"]


def test_command_prints_one_object(tmp_path, capsys):
    file = tmp_path / "m.json"
    file.write_text(json.dumps({"means": [[0.0, 1.0], [1.0, -1.0]], "std": 0.2, "weights": [1, 3]}))
    assert nfe.main(["--json", "--mixture", str(file), "--nfe", "4", "--noises", "8", "--ours-only"]) == 0
    out = json.loads(capsys.readouterr().out)
    assert out["mixture"] == {"modes": 2, "dimensions": 2} and out["ratio"] == {"4": None}
    assert {*out["rows"][0]} == {"who", "sampler", "grid", "nfe", "calls", "rms", "default"}
    assert nfe.main(["--nfe", "4", "--noises", "8", "--ours-only"]) == 0
    assert "<- default" in capsys.readouterr().out


@pytest.mark.parametrize(
    "text, args, says",
    [
        (None, ["--mixture", "nowhere.json"], "cannot read mixture"),
        ("{", [], "not JSON"),
        ('{"means": [[0]]}', [], "std"),
        ('{"means": [[0]], "std": -1}', [], "std must not be negative"),
        ('{"means": [[0, 1], [2]], "std": 1}', [], "means"),
        ('{"means": [[0]], "std": 1, "sdt": 2}', [], "sdt"),
        (None, ["--nfe", "five"], "--nfe"),
        (None, ["--nfe", "1"], "--nfe"),
        (None, ["--noises", "0"], "--noises"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(text, args, says, tmp_path, capsys):
    if text is not None:
        (tmp_path / "m.json").write_text(text)
        args = ["--mixture", str(tmp_path / "m.json")]
    assert nfe.main(args) == 2
    out, err = capsys.readouterr()
    assert not out and err.startswith("error: ") and err.count("\n") == 1 and says in err
