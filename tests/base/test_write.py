"""The one writer and the one lock: whole or not at all, nothing of others touched."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from unnoise.base import lock, write
from unnoise.errors import BadInput


def test_a_failed_body_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError), write.new_file(path) as part:
        part.write_bytes(b"half")
        raise RuntimeError
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["a.txt"]


def test_folders_are_made_and_links_followed(tmp_path):
    write.put(tmp_path / "x" / "y.bin", b"1")
    link = tmp_path / "link.bin"
    link.symlink_to(tmp_path / "x" / "y.bin")
    write.put(link, b"2")
    assert link.is_symlink() and (tmp_path / "x" / "y.bin").read_bytes() == b"2"


def test_what_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for path in (
        tmp_path,
        tmp_path / "file" / "x",
        f"{tmp_path}/new/",
        f"{tmp_path}/a\0b",
        tmp_path / ("n" * 300),
    ):
        with pytest.raises(BadInput, match="cannot write"):
            write.put(path, b"1")
    assert os.listdir(tmp_path) == ["file"]


def test_a_device_or_a_pipe_is_never_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path / "link", "/dev/null"):
        with pytest.raises(BadInput, match="a device or a pipe"):
            write.put(path, b"1")
    assert not os.path.isfile("/dev/null") and sorted(os.listdir(tmp_path)) == ["link", "pipe"]


def test_many_writers_of_one_name(tmp_path):
    path, values = tmp_path / "one.bin", [bytes([k]) * 200_000 for k in range(8)]
    threads = [threading.Thread(target=write.put, args=(path, v)) for v in values]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert path.read_bytes() in values and os.listdir(tmp_path) == ["one.bin"]


def test_permissions_are_the_ordinary_ones(tmp_path):
    old = os.umask(0o022)
    try:
        write.put(tmp_path / "a", b"")
    finally:
        os.umask(old)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644


def test_free_names(tmp_path):
    first = tmp_path / "cat.png"
    assert write.free_name(first) == first
    first.write_bytes(b"")
    assert write.free_name(first).name == "cat-2.png"
    (tmp_path / "cat-2.png").write_bytes(b"")
    (tmp_path / "cat-4.png").write_bytes(b"")
    assert write.free_name(first).name == "cat-3.png"
    (tmp_path / "dog.png").symlink_to(tmp_path / "nowhere")
    assert write.free_name(tmp_path / "dog.png").name == "dog-2.png"


HOLD = (
    "import sys, time\nfrom unnoise.base import lock\nwith lock.alone(sys.argv[1], 'training'):\n   "
    " print('held', flush=True)\n    time.sleep(60)\n"
)


def test_a_lock_is_refused_while_held_and_free_after_a_kill(tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(BadInput, match=f"in use: training by process {holder.pid}"),
            lock.alone(tmp_path, "x"),
        ):
            pass
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    assert (tmp_path / ".lock").exists()
    with lock.alone(tmp_path, "x"):
        pass
    assert os.listdir(tmp_path) == []


def test_a_lock_excludes_threads_too(tmp_path):
    inside, most = 0, 0

    def work():
        nonlocal inside, most
        for _ in range(50):
            try:
                with lock.alone(tmp_path, "x"):
                    inside += 1
                    most = max(most, inside)
                    time.sleep(0.0005)
                    inside -= 1
            except BadInput:
                pass

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert most == 1


def test_beside_never_replaces_whoever_writes_at_the_same_time(tmp_path):
    made: list[str] = []

    def work(k: int):
        for i in range(10):
            made.append(write.put_beside(tmp_path / "new" / "cat.png", f"{k} {i}".encode()).name)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert (
        sorted(made)
        == sorted(os.listdir(tmp_path / "new"))
        == sorted(["cat.png", *(f"cat-{n}.png" for n in range(2, 41))])
    )
    assert len({(tmp_path / "new" / name).read_bytes() for name in made}) == 40


@pytest.mark.parametrize("there", ["folder", "file", "link", "broken link"])
def test_beside_leaves_what_is_there(tmp_path, there):
    path = tmp_path / "cat.png"
    (tmp_path / "other").write_bytes(b"other")
    if there == "folder":
        path.mkdir()
    elif there == "file":
        path.write_bytes(b"mine")
    else:
        path.symlink_to(tmp_path / ("other" if there == "link" else "nowhere"))
    assert write.put_beside(path, b"new") == tmp_path / "cat-2.png"
    assert (tmp_path / "cat-2.png").read_bytes() == b"new" and (tmp_path / "other").read_bytes() == b"other"
    assert not (tmp_path / "nowhere").exists() and not list(tmp_path.glob(".*"))


def test_beside_says_why_it_cannot_write(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(BadInput, match="cannot write"):
        write.put_beside(tmp_path / "file" / "x.png", b"new")
    with pytest.raises(BadInput, match="cannot write"):
        write.put_beside(tmp_path / "a\0b.png", b"new")
