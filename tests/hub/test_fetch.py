"""Fetching, against a hub on this machine that cuts, lies, changes its files and forbids; and that nothing
else opens a connection.
"""

import errno
import fcntl
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.hubserver import NEEDED, NET, REPO, HubServer, tensors
from unnoise.errors import BadInput
from unnoise.hub import fetch as hub

UNET, VAE = f"unet/{NET}.safetensors", f"vae/{NET}.safetensors"


@pytest.fixture
def server():
    s = HubServer()
    yield s
    s.close()


@pytest.fixture
def here(server, tmp_path, monkeypatch):
    """The folder in which the model will lie."""
    monkeypatch.setenv("UNNOISE_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
    monkeypatch.setattr(hub, "PAUSE", 0.0)
    return tmp_path / "models" / REPO


def stored(path):
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def expected(server, names=NEEDED):
    return {n: server.files[n] for n in names}


def holds(path, server, names=NEEDED):
    """Exactly these files and the manifest, and no work in progress beside them."""
    got = stored(path)
    d = json.loads(got.pop(hub.MANIFEST))
    assert got == expected(server, names)
    assert d["files"] == {
        n: {"size": len(raw), "sha256": hashlib.sha256(raw).hexdigest()} for n, raw in got.items()
    }
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    return d


def refused(*args, **options):
    with pytest.raises(BadInput) as e:
        hub.fetch(*args, **options)
    assert "\n" not in str(e.value)
    return str(e.value)


def part(path, server, file=UNET):
    return path.with_name(f".{path.name}.part") / f"{hashlib.sha256(server.files[file]).hexdigest()}.part"


def asked(server):
    """The files that were asked for."""
    return {f for f, _ in server.requests if f}


def no_sockets(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


# --- what comes ---------------------------------------------------------------------------------------------


def test_what_is_needed_comes_and_nothing_else(server, here):
    got = hub.fetch(REPO)
    d = holds(here, server)
    assert (
        got.path == here and got.manifest == d and got.received == sum(len(server.files[n]) for n in NEEDED)
    )
    assert (d["repo"], d["commit"], d["revision"], d["variant"]) == (REPO, "a" * 40, "main", None)
    assert asked(server) == set(NEEDED)
    assert [
        n
        for n, c in server.sent.items()
        if n in NEEDED and n != "model_index.json" and c != len(server.files[n])
    ] == []


def test_what_is_here_needs_no_network(server, here, monkeypatch):
    assert hub.local(REPO) is None
    hub.fetch(REPO)
    before = {p: p.stat().st_mtime_ns for p in here.rglob("*")}
    no_sockets(monkeypatch)
    for options in ({}, {"revision": "main"}, {"revision": "a" * 40}, {"variant": "plain"}):
        assert hub.fetch(REPO, **options).received == 0
    assert hub.local(REPO) == here and before == {p: p.stat().st_mtime_ns for p in here.rglob("*")}
    with pytest.raises(AssertionError, match="connection"):
        hub._opener().open(server.endpoint)  # the patch does bite


def test_a_variant_is_taken_where_there_is_one(server, here):
    hub.fetch(REPO, variant="fp16")
    names = [
        n.replace(".safetensors", ".fp16.safetensors") if n.startswith(("unet", "text")) else n
        for n in NEEDED
    ]
    assert holds(here, server, names)["variant"] == "fp16"
    assert hub.fetch(REPO).received == 0  # what is here stays, unless another is asked for
    hub.fetch(REPO, variant="plain")
    holds(here, server)


def test_a_plan_writes_nothing(server, here, tmp_path):
    plan = hub.plan(REPO)
    assert sorted(f.name for f in plan.files) == NEEDED and plan.size == sum(
        len(server.files[n]) for n in NEEDED
    )
    assert list(tmp_path.iterdir()) == [] and asked(server) == {"model_index.json"}


def test_git_names_small_files_as_we_do(tmp_path):
    (tmp_path / "x").write_bytes(b"hello\n")
    assert hub.digest(tmp_path / "x", "0" * 40) == "ce013625030ba8dba906f756967f9e9ca394464a"
    assert hub.digest(tmp_path / "x", "0" * 64) == hashlib.sha256(b"hello\n").hexdigest()


# --- which files --------------------------------------------------------------------------------------------

BASE = [n for n in NEEDED if "safetensors" not in n]
PLAIN = {"unet": [UNET], "vae": [VAE], "text_encoder": ["text_encoder/model.safetensors"]}
SHARDS = [f"unet/{NET}-0000{i}-of-00002.safetensors" for i in (1, 2)]
SHARDS16 = [f"unet/{NET}.fp16-0000{i}-of-00002.safetensors" for i in (1, 2)]
OLD16 = [f"unet/{NET}-0000{i}-of-00002.fp16.safetensors" for i in (1, 2)]
INDEX, INDEX16 = f"unet/{NET}.safetensors.index.json", f"unet/{NET}.safetensors.index.fp16.json"
FP16 = f"unet/{NET}.fp16.safetensors"


@pytest.mark.parametrize(
    ("unet", "variant", "chosen"),
    [
        ([UNET, FP16], None, [UNET]),
        ([UNET, FP16], "fp16", [FP16]),
        ([UNET, *SHARDS, INDEX], None, [UNET]),
        ([*SHARDS, INDEX, FP16], None, [*SHARDS, INDEX]),
        ([*SHARDS16, INDEX16, UNET], "fp16", [*SHARDS16, INDEX16]),
        ([*OLD16, INDEX16, UNET], "fp16", [*OLD16, INDEX16]),
        ([*OLD16, *SHARDS16, INDEX16, UNET], "fp16", [*SHARDS16, INDEX16]),
        ([UNET, f"unet/{NET}.non_ema.safetensors"], None, [UNET]),
        ([*SHARDS16, UNET, FP16], "fp16", [FP16]),
        ([UNET, *SHARDS16], "fp16", [UNET]),
    ],
)
def test_one_weight_format_a_component(unet, variant, chosen):
    names = [*BASE, *unet, *PLAIN["vae"], *PLAIN["text_encoder"]]
    got = hub.choose(names, variant)
    assert got == sorted([*BASE, *chosen, *PLAIN["vae"], *PLAIN["text_encoder"]])


@pytest.mark.parametrize(
    ("unet", "variant", "said"),
    [
        ([FP16], None, "--variant fp16"),
        ([f"unet/{NET}.non_ema.safetensors"], None, "--variant non_ema"),
        ([f"unet/{NET}.bin"], None, f"{NET}.bin"),
        ([], None, "unet has no whole set"),
        ([SHARDS[0], INDEX], None, SHARDS[0]),
        (SHARDS, None, "no whole set"),
        ([UNET, FP16], "fp61", "did you mean 'fp16'"),
        ([UNET], "fp16", "accepted: plain"),
    ],
)
def test_what_is_missing_is_named(unet, variant, said):
    with pytest.raises(BadInput) as e:
        hub.choose([*BASE, *unet, *PLAIN["vae"], *PLAIN["text_encoder"]], variant, REPO)
    assert said in str(e.value)


@pytest.mark.parametrize(
    "gone",
    ["model_index.json", "unet/config.json", "scheduler/scheduler_config.json", "tokenizer/merges.txt"],
)
def test_an_incomplete_repository_is_refused(server, here, gone):
    del server.files[gone]
    assert gone in refused(REPO) and not here.exists()


@given(
    st.lists(
        st.sampled_from(
            [
                UNET,
                FP16,
                *SHARDS,
                *SHARDS16,
                *OLD16,
                INDEX,
                INDEX16,
                f"unet/{NET}.bin",
                f"unet/{NET}.non_ema.safetensors",
                "unet/../../x.safetensors",
                "../README.md",
                "/README.md",
                "unet/model.onnx",
                "x.ckpt",
                "a/unet/config.json",
            ]
        )
    ),
    st.sampled_from([None, "fp16"]),
)
def test_a_choice_is_safe_and_of_one_format(extra, variant):
    try:
        got = hub.choose([*BASE, *extra, *PLAIN["vae"], *PLAIN["text_encoder"]], variant)
    except BadInput:
        return
    unet = [n for n in got if n.startswith("unet/") and n != "unet/config.json"]
    assert (
        unet
        and all(n.endswith(".safetensors") or ".safetensors.index" in n for n in unet)
        and ".non_ema" not in "".join(unet)
    )
    assert len(unet) == 1 or (len(unet) == 3 and len({("fp16" in n) for n in unet}) == 1)
    assert not [n for n in got if ".." in n or n.startswith("/") or n.endswith((".bin", ".ckpt", ".onnx"))]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("StableDiffusionXLPipeline", "text_encoder_2"),
        ("StableDiffusion3Pipeline", "text_encoder_3"),
        ("FluxPipeline", "transformer"),
        ("KandinskyPipeline", ""),
    ],
)
def test_other_pipelines_are_refused_before_anything_large_comes(server, here, kind, said):
    server.files["model_index.json"] = json.dumps({"_class_name": kind, said: ["a", "b"]}).encode()
    del server.files["unet/config.json"]  # Flux and SD3 have none: they must be named all the same
    text = refused(REPO)
    assert REPO in text and kind in text and said in text and "StableDiffusionInpaintPipeline" in text
    assert asked(server) == {"model_index.json"} and not here.parent.exists()


def test_inpainting_is_accepted(server, here):
    server.files["model_index.json"] = server.files["model_index.json"].replace(
        b"DiffusionPipeline", b"DiffusionInpaintPipeline"
    )
    hub.fetch(REPO)
    holds(here, server)


@pytest.mark.parametrize("raw", [b"[1]", b"<html>", b"[" * 100_000, b"\xff"])
def test_an_index_that_is_no_object(server, here, raw):
    server.files["model_index.json"] = raw
    assert "not a JSON object" in refused(REPO)


# --- interruptions ------------------------------------------------------------------------------------------


def test_a_cut_connection_goes_on_where_it_was(server, here):
    server.faults[UNET] = [{"cut": 100_000}, {"cut": 0}, {"cut": 50_001}]
    hub.fetch(REPO)
    holds(here, server)
    assert server.ranges(UNET) == [None, "bytes=100000-", "bytes=100000-", "bytes=150001-"]
    assert server.sent[UNET] == len(server.files[UNET])  # no byte twice


def test_a_fetch_that_failed_goes_on_the_next_time(server, here, monkeypatch):
    monkeypatch.setattr(hub, "TRIES", 1)
    server.faults[UNET] = [{"cut": 100_000}, {"cut": 0}]
    text = refused(REPO)
    assert UNET in text and "100000 of" in text and not here.exists() and hub.local(REPO) is None
    assert part(here, server).read_bytes() == server.files[UNET][:100_000]
    got = hub.fetch(REPO)
    holds(here, server)
    assert got.received == len(server.files[UNET]) - 100_000
    assert all(
        c == len(server.files[n]) for n, c in server.sent.items() if n in NEEDED and n != "model_index.json"
    )


def test_a_busy_hub_is_asked_again(server, here):
    server.faults[VAE] = [{"status": 503}, {"status": 429}]
    hub.fetch(REPO)
    holds(here, server)


def test_a_hub_that_never_delivers_is_given_up(server, here):
    server.faults[VAE] = [{"cut": 0}] * 99
    assert VAE in refused(REPO) and len(server.ranges(VAE)) == hub.TRIES


def test_a_server_without_ranges_starts_over(server, here):
    server.faults[UNET] = [{"cut": 100_000}, {"no_range": True}]
    hub.fetch(REPO)
    holds(here, server)
    assert server.sent[UNET] == len(server.files[UNET]) + 100_000


def start(here, server, *, ready):
    """`unnoise fetch` as a process of its own, once it has as many bytes of the UNet on its disk."""
    code = f"from unnoise.hub import fetch as h; h.fetch({REPO!r})"
    p = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "UNNOISE_CACHE": str(here.parents[2])},
        stderr=subprocess.PIPE,
    )
    until = time.time() + 60
    while not (part(here, server).exists() and part(here, server).stat().st_size >= ready):
        assert time.time() < until and p.poll() is None, p.stderr and p.stderr.read().decode()
        time.sleep(0.02)
    return p


def test_sigkill_and_resume(server, here):
    server.faults[UNET] = [{"hang": 123_456}]
    p = start(here, server, ready=123_456)
    with pytest.raises(BadInput, match="is being fetched by process"):
        hub.fetch(REPO)
    p.kill()
    p.wait()
    assert not here.exists()
    server.go.set()
    got = hub.fetch(REPO)
    holds(here, server)
    assert server.ranges(UNET) == [None, "bytes=123456-"] and server.sent[UNET] == len(server.files[UNET])
    assert (
        got.received == len(server.files[UNET]) - 123_456
    )  # every other file was whole: they are smaller and came first


# --- content ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", [UNET, "vae/config.json"])
def test_a_wrong_hash_is_refused_and_not_kept(server, here, file):
    raw = bytearray(server.files[file])
    raw[len(raw) // 2] ^= 1
    server.faults[file] = [{"body": bytes(raw)}]
    text = refused(REPO)
    assert file in text and "lists" in text and not here.exists()
    assert not list(here.parent.rglob("*.part/*.part"))
    hub.fetch(REPO)
    holds(here, server)


def test_a_file_that_changes_between_attempts_is_not_glued_together(server, here):
    other = tensors(9, conv=(100, 1000), bias=(100,))
    server.faults[UNET] = [{"cut": 100_000, "body": other}]  # then the one that the listing names
    assert len(other) == len(server.files[UNET])
    hub.fetch(REPO)
    holds(here, server)
    assert server.ranges(UNET) == [None, "bytes=100000-", None]


def test_a_file_of_another_length_is_refused_at_once(server, here):
    server.faults[UNET] = [{"cut": 100_000}, {"body": server.files[UNET] + b"xx"}]
    assert UNET in refused(REPO) and part(here, server).stat().st_size == 100_000


@pytest.mark.parametrize("fault", [{}, {"no_length": True}, {"kind": "application/json"}])
@pytest.mark.parametrize("file", [UNET, "unet/config.json"])
def test_a_web_page_with_status_200(server, here, file, fault):
    server.faults[file] = [
        {"body": b"<!doctype html><title>log in</title>" * 40, "kind": "text/html", **fault}
    ]
    text = refused(REPO)
    assert file in text and not here.exists()
    if not fault:
        assert "text/html" in text and "1440 bytes" in text
    hub.fetch(REPO)
    holds(here, server)


def test_a_moved_branch_costs_only_what_changed(server, here, monkeypatch):
    monkeypatch.setattr(hub, "TRIES", 1)
    server.faults[UNET] = [{"cut": 100_000}, {"cut": 0}]
    refused(REPO)
    server.files["README.md"], server.files[VAE], server.commit = (
        b"---\nlicense: mit\n---\n",
        tensors(8, conv=(60, 100)),
        "b" * 40,
    )
    server.forget()
    hub.fetch(REPO)
    assert holds(here, server)["commit"] == "b" * 40
    assert asked(server) == {"model_index.json", "README.md", VAE, UNET} and server.ranges(UNET) == [
        "bytes=100000-"
    ]


def test_another_revision_takes_the_place_of_a_whole_folder_only_when_whole(server, here):
    hub.fetch(REPO)
    before = stored(here)
    server.files[UNET], server.commit = tensors(8, conv=(100, 1000), bias=(100,)), "b" * 40
    server.forget()
    assert hub.fetch(REPO).received == 0  # not asked for
    server.faults[UNET] = [{"status": 404}]
    assert "404" in refused(REPO, "v1") and stored(here) == before and hub.local(REPO) == here
    hub.fetch(REPO, "v1")
    assert holds(here, server)["revision"] == "v1" and asked(server) == {"model_index.json", UNET}


def test_a_lost_file_alone_comes_again(server, here):
    hub.fetch(REPO)
    (here / UNET).unlink()
    (here / "vae/config.json").write_bytes(b"{}")
    server.forget()
    hub.fetch(REPO)
    holds(here, server)
    assert asked(server) == {"model_index.json", "vae/config.json", UNET}


def test_a_folder_that_was_not_fetched_is_left(server, here):
    here.mkdir(parents=True)
    (here / "mine.txt").write_text("mine")
    assert "left as it is" in refused(REPO) and stored(here) == {"mine.txt": b"mine"} and server.paths == []


@pytest.mark.parametrize(
    "raw",
    [b"", b"[]", b"{}", b'{"files": {"a": 1}, "repo": 1, "commit": 1, "revision": 1, "variant": 1}', b"\xff"],
)
def test_a_broken_manifest_is_named(server, here, raw):
    hub.fetch(REPO)
    (here / hub.MANIFEST).write_bytes(raw)
    assert hub.MANIFEST in refused(REPO)


# --- the disk -----------------------------------------------------------------------------------------------


def test_too_small_a_disk_is_refused_before_the_first_byte(server, here, monkeypatch):
    need = sum(len(server.files[n]) for n in NEEDED)

    def free(n):
        monkeypatch.setattr(shutil, "disk_usage", lambda p: SimpleNamespace(free=n))

    monkeypatch.setattr(hub, "MARGIN", 2 * 10**9)
    free(need + hub.MARGIN - 1)
    text = refused(REPO)
    assert "2.00 GB to spare" in text and "2.00 GB are free" in text and asked(server) == {"model_index.json"}
    free(need + hub.MARGIN)
    hub.fetch(REPO)


def test_a_full_disk_keeps_what_has_come(server, here, monkeypatch):
    real = hub._append

    class Full:
        """A file on a disk with room for 100,000 bytes more."""

        def __init__(self, file, room=100_000):
            self.file, self.room = file, room

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def write(self, raw):
            if not self.room:
                raise OSError(errno.ENOSPC, "No space left on device")
            n = self.file.write(raw[: self.room])
            self.room -= n
            return n

    monkeypatch.setattr(hub, "_append", lambda p: Full(real(p)))
    text = refused(REPO)
    assert (
        "No space left on device" in text and part(here, server).read_bytes() == server.files[UNET][:100_000]
    )
    assert len(server.ranges(UNET)) == 1  # a full disk is no reason to ask again
    monkeypatch.setattr(hub, "_append", real)
    hub.fetch(REPO)
    holds(here, server)
    assert server.ranges(UNET) == [None, "bytes=100000-"]


def test_a_place_that_cannot_be_written(server, here, tmp_path):
    (tmp_path / "models").write_text("a file")
    assert str(here.parent) in refused(REPO)


def test_one_process_at_a_time(server, here):
    store = here.with_name(f".{here.name}.part")
    store.mkdir(parents=True)
    with (store / ".lock").open("w") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        assert "in use" in refused(REPO)
    hub.fetch(REPO)
    holds(here, server)


# --- the hub says no ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["model", "a/b/c", "../x", "a/..", "a..b/c", "/a/b", "a/", "https://x/a/b", "a b/c", "a/b\n", "é/x", ""],
)
def test_names(name, here, server):
    assert "owner/model" in refused(name) and hub.local(name) is None and server.paths == []


def test_missing_gated_revision(server, here):
    assert "there is no model painter/nothing" in refused("painter/nothing")
    text = refused(REPO, "v9")
    assert "no revision 'v9'" in text
    server.gated = True
    assert "gated" in refused(REPO) and "HF_TOKEN" in refused(REPO) and not here.exists()


def test_no_network(here, monkeypatch, server):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{s.getsockname()[1]}")
        assert f"cannot ask the hub for {REPO}" in refused(REPO)


@pytest.mark.parametrize("page", [b"<html>log in</html>", b"[]", b"{}"])
def test_a_listing_that_is_none(here, server, page):
    server.page = page
    refused(REPO)
    assert not here.exists()


@pytest.mark.parametrize("digest", ["", "../../../x", "0" * 63, "Z" * 64])
@pytest.mark.parametrize("file", [UNET, "model_index.json", "vae/config.json"])
def test_a_digest_that_is_none(here, server, digest, file, tmp_path):
    server.digests[file] = digest
    assert f"no digest for {file}" in refused(REPO) and list(tmp_path.iterdir()) == []


def test_the_token_goes_to_the_hub_alone(server, here, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_environment")
    hub.fetch(REPO, variant="fp16")
    assert not [h for _, h in server.requests if "Authorization" in h]  # none unless it is given
    server.forget()
    hub.fetch(REPO, variant="plain", token="hf_secret")
    small = [h for f, h in server.requests if not f.endswith(".safetensors")]
    assert small and all(h["Authorization"] == "Bearer hf_secret" for h in small)
    assert server.cdn_headers and not [h for h in server.cdn_headers if "secret" in str(h)]


def test_only_the_known_endpoints_are_asked(server, here):
    hub.fetch(REPO)
    assert [
        p for p in server.paths if not p.startswith((f"/api/models/{REPO}", f"/{REPO}/resolve/{'a' * 40}/"))
    ] == []


def test_progress_ends_at_the_whole(server, here):
    seen = []
    server.faults[UNET] = [{"cut": 100_000}, {"no_range": True}]
    hub.fetch(REPO, report=lambda *a: seen.append(a))
    total = sum(len(server.files[n]) for n in NEEDED)
    assert seen[-1] == (UNET, total, total) and all(0 <= done <= t == total for _, done, t in seen)


def test_what_else_lies_in_a_fetched_folder_stays_and_a_half_put_one_is_not_there(server, here):
    hub.fetch(REPO)
    (here / "lora").mkdir()
    (here / "lora/mine.safetensors").write_text("mine")
    d = json.loads((here / hub.MANIFEST).read_text())
    (here / "README.md").unlink(missing_ok=True)
    for broken in (
        {"files": 5},
        {"files": {"../x": {"size": 1, "sha256": "0" * 64}}},
        {"commit": None},
        {"files": {"a": {"size": "1", "sha256": "0" * 64}}},
    ):
        (here / hub.MANIFEST).write_text(json.dumps(d | broken))
        with pytest.raises(BadInput, match="is damaged: delete the folder"):
            hub.manifest(here)
    (here / hub.MANIFEST).write_text(json.dumps(d | {"installing": True}))
    assert hub.local(REPO) is None
    again = hub.fetch(REPO)
    assert (
        hub.local(REPO) == here
        and not again.manifest.get("installing")
        and (here / "lora/mine.safetensors").read_text() == "mine"
    )
    assert not [p for p in here.rglob("*") if p.name.endswith(".part")]
