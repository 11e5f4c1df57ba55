"""The command as a process: how it is started, what it exits with, and what the machine may lack: one line
each, nothing left behind.
"""

import os
import signal
import subprocess
import sys
import time

import pytest

ENV = {k: v for k, v in os.environ.items() if not k.startswith(("LC_", "LANG"))}


def process(*args, env=None, **how):
    how = {"capture_output": True, **how}
    return subprocess.run(
        [sys.executable, "-m", "unnoise", *args], env={**ENV, **(env or {})}, check=False, **how
    )


def script(body: str, env=None, **how):
    """A script whose main function is run as a command is."""
    code = f"import sys\ndef main():\n    {body}\nfrom unnoise.cli.main import leave\nleave(main)\n"
    how = {"capture_output": True, **how}
    return subprocess.run([sys.executable, "-c", code], env={**ENV, **(env or {})}, check=False, **how)


def one_line(r) -> str:
    text = r.stderr.decode()
    assert (
        text.startswith("error: ")
        and text.count("\n") == 1
        and text.endswith("\n")
        and "Traceback" not in text
    ), text
    return text


def test_the_module_is_the_command():
    r = process("--version")
    assert r.returncode == 0 and r.stdout == b"0.1.0\n" and r.stderr == b""


def test_alone_it_prints_the_help_to_stdout():
    r = process()
    assert (
        r.returncode == 0
        and r.stderr == b""
        and r.stdout.startswith(b"Usage: unnoise")
        and b"\n  generate " in r.stdout
    )


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell, tmp_path):
    home = {"HOME": str(tmp_path)}
    shown = process("--show-completion", shell, env=home)
    assert shown.returncode == 0 and b"_UNNOISE_COMPLETE" in shown.stdout and not list(tmp_path.iterdir())
    made = process(f"--install-completion={shell}", env=home)
    assert made.returncode == 0 and any(
        b"_UNNOISE_COMPLETE" in p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()
    )


@pytest.mark.parametrize("option", ["--show-completion", "--install-completion"])
def test_a_shell_without_completions(option, tmp_path):
    r = process(option, "tcsh", env={"HOME": str(tmp_path)})
    assert (
        r.returncode == 2
        and "bash, zsh, fish" in one_line(r)
        and "tcsh" in one_line(r)
        and not list(tmp_path.iterdir())
    )


@pytest.mark.parametrize(("parent", "code"), [("bash", 0), ("sh", 2)])
def test_the_shell_it_was_typed_in_is_found(parent, code, tmp_path):
    """In bash its completions are shown; in one that has none, one line says which are there."""
    (tmp_path / parent).symlink_to("/bin/bash")
    run = [str(tmp_path / parent), "-c", f"{sys.executable} -m unnoise --show-completion; exit $?"]
    r = subprocess.run(run, env={**ENV, "SHELL": "", "HOME": str(tmp_path)}, capture_output=True, check=False)
    assert r.returncode == code and (
        b"_UNNOISE_COMPLETE" in r.stdout if code == 0 else "bash, zsh, fish" in one_line(r)
    ), (r.stdout, r.stderr)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("unnoise gen", {"generate"}),
        ("unnoise edit inp", {"inpaint"}),
        ("unnoise generate --ste", {"--steps"}),
        ("unnoise generate --guide", {"--guide", "--guide-through", "--guide-linear"}),
    ],
)
def test_completions(words, expected):
    r = process(
        env={"_UNNOISE_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    )
    assert set(r.stdout.decode().split()) == expected and r.returncode == 0


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        ("raise MemoryError", 2, "not enough memory"),
        ("raise MemoryError('7 GiB for this')", 2, "7 GiB"),
        ("bytearray(1 << 62)", 2, "not enough memory"),
        (
            (
                "raise RuntimeError('[enforce fail at alloc_cpu.cpp:114] data. DefaultCPUAllocator: can\\'t"
                " allocate memory: you tried')"
            ),
            2,
            "not enough memory",
        ),
        ("raise RuntimeError('CUDA out of memory. Tried to allocate')", 2, "not enough memory"),
        ("main()", 2, "nested too deep"),
        ("open('/nothing/here/at/all')", 2, "/nothing/here/at/all"),
        ("open('/proc/self/x', 'w')", 2, "/proc/self/x"),
        ("import os; os.mkdir('/proc/new')", 2, "/proc/new"),
        ("raise OSError(28, 'No space left on device', 'cat.png')", 2, "No space left on device: cat.png"),
        ("raise TimeoutError('too late')", 2, "too late"),
        ("'\\ud800'.encode()", 2, "locale"),
        ("raise KeyError('x')", 1, "a fault of unnoise itself"),
        ("raise ValueError('two\\nlines\\x1b[2J')", 1, "two lines"),
        ("return 3", 3, None),
        ("sys.exit(4)", 4, None),
        ("sys.exit('in words')", 2, "in words"),
        ("return None", 0, None),
        ("raise KeyboardInterrupt", 130, None),
        ("raise KeyboardInterrupt('2 of 3 done')", 130, None),
    ],
)
def test_exit_codes(body, code, said):
    r = script(body)
    assert r.returncode == code and (said is None or said in one_line(r)), (r.returncode, r.stderr)
    if code == 130:
        assert r.stderr in (b"interrupted\n", b"interrupted: 2 of 3 done\n")
    if said:
        assert b"\x1b" not in r.stderr


@pytest.mark.parametrize(
    ("sent", "code", "word"), [(signal.SIGINT, 130, b"interrupted"), (signal.SIGTERM, 143, b"terminated")]
)
def test_signals(sent, code, word):
    body = (
        "import sys, time\ndef main():\n    print('ready', flush=True)\n    time.sleep(60)\nfrom"
        " unnoise.cli.main import leave\nleave(main)\n"
    )
    p = subprocess.Popen([sys.executable, "-c", body], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert p.stdout is not None and p.stdout.readline() == b"ready\n"
    p.send_signal(sent)
    out, err = p.communicate(timeout=30)
    assert p.returncode == code and err == word + b"\n" and out == b""


def test_a_reader_that_goes_away_is_no_error():
    p = subprocess.Popen(
        [sys.executable, "-c", "from unnoise.cli.main import leave\nleave(lambda: print('x' * 10**6))"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert p.stdout is not None and p.stderr is not None
    p.stdout.read(10)
    p.stdout.close()
    assert p.wait(30) == 0 and p.stderr.read() == b""


def test_a_broken_pipe_elsewhere_is_one():
    r = script("raise BrokenPipeError(32, 'Broken pipe')")
    assert r.returncode == 2 and "Broken pipe" in one_line(r)


def test_a_closed_stdout_is_told_and_takes_no_file(tmp_path):
    """With number 1 free, the first file opened would get it, and what is printed with it."""
    file = tmp_path / "file"
    body = f"f = open({str(file)!r}, 'w'); print('lost'); f.write('kept'); f.close()"
    r = script(body, preexec_fn=lambda: os.close(1), capture_output=False, stderr=subprocess.PIPE)
    assert r.returncode == 2 and "stdout" in one_line(r) and file.read_text() == "kept"


@pytest.mark.parametrize("json", [(), ("--json",)])
def test_a_full_disk_behind_stdout_is_told(json):
    with open("/dev/full", "wb") as full:
        r = process("lab", "list", *json, capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert r.returncode == 2 and "No space left" in one_line(r)


def test_a_closed_stderr_costs_nothing_but_the_words():
    assert (
        process(
            "--version", preexec_fn=lambda: os.close(2), capture_output=False, stdout=subprocess.PIPE
        ).returncode
        == 0
    )
    assert (
        process(
            "nothing", preexec_fn=lambda: os.close(2), capture_output=False, stdout=subprocess.PIPE
        ).returncode
        == 2
    )


@pytest.mark.parametrize(
    "env",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONIOENCODING": "latin-1"},
        {"PYTHONIOENCODING": "cp1252"},
    ],
)
def test_locales_without_the_letters(env):
    r = process("--help", env=env)
    assert r.returncode == 0 and r.stderr == b"" and b"generate" in r.stdout
    r = script("print('\\u2600\\u00e9\\U0001f34e')", env=env)
    assert r.returncode == 0 and r.stderr == b"" and b"\\u2600" in r.stdout and b"\\U0001f34e" in r.stdout
    r = process("nothing-\u2600", env=env)
    assert r.returncode == 2 and "unknown command" in one_line(r)


@pytest.mark.parametrize("home", ["/proc", "/nonexistent-home", "/etc/passwd"])
def test_a_home_that_cannot_be_written(home):
    r = process("info", "digits", "--no-hash", env={"HOME": home})
    assert (
        r.returncode == 0
        and r.stdout.startswith(b"digits")
        and r.stderr == b""
        and not os.path.exists("/nonexistent-home")
    )
    r = process("--install-completion", "bash", env={"HOME": "/proc"})
    assert r.returncode == 2 and one_line(r)


def test_no_user_and_no_home():
    """As in a container that runs as a number: `Path.home()` raises."""
    body = (
        "import os, pwd; pwd.getpwuid = lambda n: (_ for _ in ()).throw(KeyError(n)); os.environ.pop('HOME',"
        " None); from unnoise.cli.main import _invoke; _invoke(['data', 'list'])"
    )
    r = script(body)
    assert r.returncode == 2 and "UNNOISE_CACHE" in one_line(r)


def test_ctrl_c_while_the_command_is_loaded():
    body = (
        "import sys, types, unnoise.__main__ as m\nclass Stop:\n    def find_spec(self, name, *rest):\n"
        "        if name == 'typer': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Stop())\nm.main()\n"
    )
    r = subprocess.run([sys.executable, "-c", body], capture_output=True)
    assert r.returncode == 130 and r.stderr == b""


def test_debug_shows_the_traceback_and_cleans_it():
    began = time.perf_counter()
    r = process("replay", "no\x1b[2Jthing.png", "--debug")
    assert (
        r.returncode == 1
        and b"Traceback" in r.stderr
        and b"\x1b" not in r.stderr
        and time.perf_counter() - began < 60
    )
