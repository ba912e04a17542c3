"""What every command shares: help, version, exit codes, streams, environment, completion."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from PIL import Image

from cli import options
from cli.app import COMMANDS, command_function
from cli.signals import between_steps, exit_on_signals
from tests.cli.conftest import Vqtok
from tests.conftest import draw, save
from tokenizer._version import __version__
from tokenizer.images import ResizeMode
from tokenizer.quantizers import METHODS
from tokenizer.tokens import TOKEN_FORMATS

HEAVY = {"numpy", "PIL", "torch", "torchvision", "torchmetrics", "matplotlib", "scipy", "rich", "asyncio", "pydantic"}
TYPERS_OWN = {"pydantic"}  # with which it reads the values of options


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    """A token file that needs no checkpoint to look at."""
    np.save(tmp_path / "t.npy", np.arange(64).reshape(1, 8, 8))
    return tmp_path / "t.npy"


@pytest.fixture
def terminal() -> Iterator[io.TextIOWrapper]:
    """The inner side of a pseudo-terminal."""
    outer, inner = os.openpty()
    with os.fdopen(outer, "rb"), os.fdopen(inner, "wb", buffering=0) as raw:
        yield io.TextIOWrapper(io.BufferedWriter(raw), write_through=True)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help(vqtok: Vqtok, command: str, flag: str) -> None:
    result = vqtok(command, flag)
    assert (result.code, result.err) == (0, "")
    text = result.out.decode()
    assert f"Usage: vqtok {command}" in text
    assert f"\n  vqtok {command} " in text or command == "list"
    assert "\n  vqtok " in text


def test_root_help(vqtok: Vqtok) -> None:
    result = vqtok("--help")
    assert (result.code, result.err) == (0, "")
    assert all(f"\n  {command}  " in result.out.decode() for command in COMMANDS)
    bare = vqtok()
    assert (bare.code, bare.out) == (2, b"")
    assert bare.err == result.out.decode()


def test_a_variable_of_an_old_name_is_refused(vqtok: Vqtok, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VQTOK_PEERS", "1")
    result = vqtok("list")
    assert (result.code, result.error) == (2, "vqtok list: error: VQTOK_PEERS is set: it is now VQTOK_BASELINES")


def test_version(vqtok: Vqtok) -> None:
    assert vqtok("--version").out.decode() == f"vqtok {__version__}\n"


def loaded_by(*words: str) -> set[str]:
    """Return which of the heavy modules `vqtok` imports for these words."""
    script = f"""
import sys
from cli.__main__ import main
sys.argv = ["vqtok", *sys.argv[1:]]
try:
    main()
except SystemExit as stop:
    assert not stop.code
finally:
    print(*{HEAVY} & set(sys.modules), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stderr.split())


@pytest.mark.parametrize("word", ["--help", "--version"])
def test_help_and_version_load_nothing_heavy(word: str) -> None:
    assert loaded_by(word) == set()


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_loads_nothing_heavy(command: str) -> None:
    assert loaded_by(command, "--help") <= TYPERS_OWN


def test_list_and_info_of_a_checkpoint_load_no_torch(run: Path) -> None:
    assert not {"torch", "torchvision", "torchmetrics", "matplotlib"} & (
        loaded_by("list") | loaded_by("info", str(run))
    )


def test_completion_loads_nothing_heavy(shell: Vqtok) -> None:
    variables = {"_VQTOK_COMPLETE": "complete_bash", "COMP_WORDS": "vqtok ", "COMP_CWORD": "1"}
    result = shell("python -X importtime -m cli", **variables)
    assert result.out.split() == [name.encode() for name in COMMANDS]
    assert HEAVY & {line.rpartition("|")[2].strip() for line in result.err.splitlines()} <= TYPERS_OWN


def test_options_offer_what_the_library_has() -> None:
    assert get_args(options.TokenFormat) == TOKEN_FORMATS
    assert get_args(options.ResizeMode) == get_args(ResizeMode)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_list_of_commands_has_the_first_line_of_their_help(vqtok: Vqtok, command: str) -> None:
    assert (command_function(command).__doc__ or "").splitlines()[0] == COMMANDS[command]
    assert vqtok(command, "--help").out.decode().splitlines()[2].strip().startswith(COMMANDS[command][:40])


@pytest.mark.slow
def test_info_and_report_of_tokens_need_no_torch(vqtok: Vqtok, run: Path, photos: Path, tmp_path: Path) -> None:
    vqtok("encode", photos / "a", "-m", run, "-o", tmp_path / "t.npy", "-q")
    script = """
import sys
from cli.__main__ import main
for words in (["info", "t.npy"], ["info", sys.argv[1]], ["report", "t.npy"]):
    sys.argv = ["vqtok", *words]
    try:
        main()
    except SystemExit as stop:
        assert not stop.code, words
sys.exit("torch" in sys.modules)
"""
    (tmp_path / "script.py").write_text(script)
    done = subprocess.run([sys.executable, "script.py", str(run)], cwd=tmp_path, capture_output=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "variables",
    [
        {"LC_ALL": "C"},
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        {"NO_COLOR": "1", "COLUMNS": "20"},
        {"TERM": "dumb"},
    ],
)
def test_odd_environments(shell: Vqtok, variables: dict[str, str], tmp_path: Path, tokens: Path) -> None:
    (tmp_path / "é.npy").write_text("no tokens")
    result = shell("vqtok --help >help && unset HOME && vqtok info t.npy && vqtok info é.npy", **variables)
    assert result.code == 1
    assert b"int64" in result.out
    assert ".npy: it is neither a .npy nor a .safetensors file" in result.err
    assert "\x1b" not in (tmp_path / "help").read_text() + result.out.decode() + result.err


def test_read_only_working_directory(shell: Vqtok, tokens: Path) -> None:
    result = shell("cd /proc && vqtok info $T --json | python -m json.tool", T=str(tokens))
    assert (result.code, result.err) == (0, "")
    assert json.loads(result.out)


@pytest.mark.parametrize(
    ("script", "code", "said"),
    [
        ("vqtok info t.npy >&-", 1, "vqtok info: error: stdout is closed: redirect it to a file or to /dev/null\n"),
        (
            "vqtok info t.npy --json >/dev/full",
            1,
            "vqtok info: error: cannot write to stdout: No space left on device\n",
        ),
        ("vqtok info t.npy --json | true", 141, ""),
        ("vqtok info t.npy --json | head -c 1 >/dev/null", 141, ""),
        ("vqtok info t.npy <&-  >/dev/null", 0, ""),
        ("vqtok info nowhere 2>&-", 1, ""),
        ("vqtok encode x.png -o - -m x >&-", 2, "vqtok encode: error: stdout is closed: redirect it, or name a file\n"),
        ("vqtok info - <&-", 2, "vqtok info: error: - reads from stdin, which is closed: pipe something in, or name"),
        ("vqtok --help >&-", 0, ""),
    ],
)
def test_streams(shell: Vqtok, tokens: Path, script: str, code: int, said: str) -> None:
    result = shell(script)
    assert result.err.startswith(said)
    assert bool(result.err) == bool(said)
    assert result.code in ((code, 0) if code == 141 else (code,))  # the reader may come too late to break the pipe


def test_binary_is_not_written_to_a_terminal(
    vqtok: Vqtok, tokens: Path, terminal: io.TextIOWrapper, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    picture = save(tmp_path / "x.png", draw(8, 8))
    for words in (["encode", picture], ["decode", tokens]):
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", terminal)
            result = vqtok(*words, "-m", "nowhere", "-o", "-")
        assert result.code == 2
        assert result.error.endswith(
            "error: stdout is a terminal, and the result is binary: redirect it, or name a file"
        )


@pytest.mark.parametrize("command", [["encode", "-"], ["encode", "--files-from", "-"], ["decode", "-"]])
def test_stdin_is_not_read_from_a_terminal(vqtok: Vqtok, run: Path, command: list[str], tmp_path: Path) -> None:
    outer, inner = os.openpty()
    with os.fdopen(outer, "rb"), os.fdopen(inner, "r") as stream:
        result = vqtok(*command, "-m", run, "-o", tmp_path / "out", stdin=stream)
    assert result.code == 2
    assert result.error == (
        f"vqtok {command[0]}: error: - reads from stdin, which is a terminal: pipe something in, or name a file"
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--bogus"], "vqtok: error: no such option: --bogus: see vqtok --help"),
        (["encod"], "vqtok: error: no such command 'encod'. Did you mean 'encode', 'decode'?"),
        (
            ["encode", "--bathc-size", "3"],
            "vqtok encode: error: no such option --bathc-size, did you mean '--batch-size'?",
        ),
        (["encode", "--batch"], "vqtok encode: error: no such option --batch, did you mean '--batch-size'?"),
        (["encode", "--peers"], "vqtok encode: error: no such option --peers, did you mean '--workers'?"),
        (["train", "--zzz"], "vqtok train: error: no such option: --zzz: see vqtok train --help"),
        (["decode", "t.npy", "-m"], "vqtok decode: error: option '-m' requires an argument: see vqtok decode --help"),
        (["info"], "vqtok info: error: missing argument 'PATH': see vqtok info --help"),
        (["info", "a", "b"], "vqtok info: error: got unexpected extra argument"),
        (["train", "x", "--seed", "-1"], "vqtok train: error: invalid value for '--seed': "),
        (["encode", "x", "--resize-mode", "fit"], "'fit' is not one of 'none', 'crop', 'pad', 'squash'"),
    ],
)
def test_usage_errors_are_one_line(vqtok: Vqtok, arguments: list[str], said: str) -> None:
    result = vqtok(*arguments)
    assert result.code == 2
    assert said in result.error


def test_wrong_value_from_the_environment(vqtok: Vqtok, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VQTOK_BATCH_SIZE", "many")
    result = vqtok("encode", "x.png", "-o", "t.npy")
    assert result.code == 2
    assert "'--batch-size'" in result.error
    assert "(from VQTOK_BATCH_SIZE=many)" in result.error
    assert "VQTOK" not in vqtok("encode", "x.png", "-o", "t.npy", "-b", "few").error


def test_settings_from_the_environment(
    vqtok: Vqtok, run: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VQTOK_MODEL", str(run))
    monkeypatch.setenv("VQTOK_QUIET", "1")
    monkeypatch.setenv("VQTOK_IMAGE_SIZE", "16")
    monkeypatch.setenv("VQTOK_DEVICE", "cpu")
    result = vqtok("encode", photos, "-o", tmp_path / "t.npy")
    assert (result.code, result.err) == (0, "")
    assert np.load(tmp_path / "t.npy").shape == (24, 2, 2)
    assert vqtok("encode", photos, "-o", tmp_path / "u.npy", "--image-size", "24").code == 0
    assert np.load(tmp_path / "u.npy").shape == (24, 3, 3)
    assert "there is no checkpoint none" in vqtok("encode", photos, "-o", tmp_path / "v.npy", "-m", "none").error


def test_debug_shows_where(vqtok: Vqtok, monkeypatch: pytest.MonkeyPatch) -> None:
    result = vqtok("encode", "nowhere", "-o", "t.npy", "-m", "none", "--debug")
    assert result.code == 1
    assert result.err.startswith("Traceback (most recent call last):")
    assert result.err.endswith("vqtok encode: error: nowhere does not exist\n")
    monkeypatch.setenv("VQTOK_DEBUG", "0")
    assert vqtok("encode", "nowhere", "-o", "t.npy", "-m", "none").error


def test_out_of_memory(vqtok: Vqtok, tokens: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("tokenizer.tokens.open_token_files", refuse)
    result = vqtok("info", tokens)
    assert (result.code, result.error) == (1, "vqtok info: error: out of memory")


def test_signals_that_the_shell_ignores_stay_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    exit_on_signals()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    with between_steps() as request:
        os.kill(os.getpid(), signal.SIGINT)
        assert request.exit_code is None
        os.kill(os.getpid(), signal.SIGTERM)
    assert request.exit_code == 143
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_names_survive_where_stdout_is_ascii(
    vqtok: Vqtok, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "in/[é].png", draw(16, 16))
    raw = io.BytesIO()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
        result = vqtok("report", "--images", tmp_path / "in", "-m", run)
        text = raw.getvalue().decode("ascii")
    assert result.code == 0
    assert "[\\xe9].png" in text


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_completion(shell: Vqtok, name: str) -> None:
    script = shell(f"vqtok --show-completion {name}")
    assert (script.code, script.err) == (0, "")
    assert "_VQTOK_COMPLETE" in script.out.decode()
    if name == "bash":
        variables = {"_VQTOK_COMPLETE": "complete_bash", "COMP_WORDS": "vqtok encode --resi", "COMP_CWORD": "2"}
        assert shell("vqtok", **variables).out.split() == [b"--resize-mode"]


def test_list_knows_a_new_quantizer(vqtok: Vqtok, monkeypatch: pytest.MonkeyPatch) -> None:
    method = next(iter(METHODS.values()))
    monkeypatch.setitem(METHODS, "brand-new", type(method)("brand-new", method.cls, "one [line]"))
    assert vqtok("list", "--json").json["quantizers"]["brand-new"] == "one [line]"
    assert re.search(rb"brand-new +one \[line\]", vqtok("list").out)


def test_pictures_on_stdout_are_only_pictures(vqtok: Vqtok, run: Path, tokens: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.zeros((2, 3), np.uint8))
    result = vqtok("decode", tmp_path / "one.npy", "-m", run, "-o", "-", "-v")
    assert result.code == 0
    assert Image.open(io.BytesIO(result.out)).size == (24, 16)
    assert "1 images decoded to stdout" in result.err
