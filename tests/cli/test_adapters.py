"""A command parses, makes one library call, and shows: it neither writes files nor works on images itself.

The code is read, not run: what a command would do with some inputs only is seen too.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import cli

FILES = sorted(Path(cli.__file__).parent.glob("*.py"))

# Calls that make, change or remove something on disk; all of them are of the library.
WRITERS = {
    "mkdir", "touch", "unlink", "rmdir", "rename", "rmtree", "makedirs", "remove", "symlink_to", "hardlink_to",
    "write_bytes", "replacing", "make_folder", "locked_folder", "Lock", "write_tokens", "write_exported",
    "TemporaryDirectory", "NamedTemporaryFile", "mkdtemp", "mkstemp", "copyfile", "copytree", "move",
}  # fmt: skip
# Calls that read or make pixels or tokens, one image after the other.
WORKERS = {
    "read_image", "read_scaled", "encode_image", "encode_images", "decode_tokens", "collect_tokens", "read_tokens",
    "restore_picture", "to_pixels", "to_unit_range", "placement_of", "measure_quality", "measure_stability",
    "usage_report",
}  # fmt: skip
# What writes in the command line: to stdout and stderr, which are no files of ours.
STREAMS = {"console.py", "signals.py"}


def name_of(call: ast.Call) -> str:
    """The last name of what is called."""
    function = call.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def calls(tree: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def modes(call: ast.Call) -> Iterator[str]:
    """The texts among what `open` is given, one of which is its mode."""
    for value in (*call.args, *(keyword.value for keyword in call.keywords)):
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            yield value.value


def writes(tree: ast.AST) -> list[str]:
    """What writes a file."""
    found = [f"line {call.lineno}: {name_of(call)}" for call in calls(tree) if name_of(call) in WRITERS]
    for call in calls(tree):
        if name_of(call) in ("open", "fdopen") and any(
            set(mode) & set("wax+") and len(mode) < 4 for mode in modes(call)
        ):
            found.append(f"line {call.lineno}: open to write")
        # `write_text(text)` of the console is stdout; `path.write_text(text)` is a file.
        if name_of(call) in ("write_text", "writelines", "save", "tofile") and isinstance(call.func, ast.Attribute):
            found.append(f"line {call.lineno}: {name_of(call)}")
        if name_of(call) in ("write", "truncate") and isinstance(call.func, ast.Attribute):
            found.append(f"line {call.lineno}: {name_of(call)}")
    return found


def works(tree: ast.AST) -> list[str]:
    """What does the work of an image."""
    return [f"line {call.lineno}: {name_of(call)}" for call in calls(tree) if name_of(call) in WORKERS]


@pytest.mark.parametrize("find", [writes, works], ids=["writes no file", "works on no image"])
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_command_is_an_adapter(path: Path, find: Callable[[ast.AST], list[str]]) -> None:
    found = find(ast.parse(path.read_text()))
    assert not found or (find is writes and path.name in STREAMS), f"{path.name} does what the library should: {found}"


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("encode.py", "jobs.encode"),
        ("decode.py", "jobs.decode"),
        ("report.py", "build_reports"),
        ("compare.py", "run_comparison"),
        ("export.py", "export_onnx"),
    ],
)
def test_one_call_does_the_work(name: str, call: str) -> None:
    tree = ast.parse((Path(cli.__file__).parent / name).read_text())
    made = [ast.unparse(node.func) for node in calls(tree)]
    assert made.count(call) == 1
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.While)]


@pytest.mark.parametrize("name", ["encode.py", "decode.py"])
def test_what_comes_of_a_job_is_shown_and_no_more(name: str) -> None:
    tree = ast.parse((Path(cli.__file__).parent / name).read_text())
    loops = [node for node in ast.walk(tree) if isinstance(node, ast.For)]
    assert all(ast.unparse(loop.iter) == "run.warnings" for loop in loops)


@pytest.mark.parametrize(
    "code",
    [
        "Path('x').open('wb')",
        "open('x', mode='a')",
        "Path('x').write_text('')",
        "path.mkdir()",
        "with replacing(path) as file: pass",
        "file.write(data)",
        "np.save(path, array)",
    ],
)
def test_what_writes_is_found(code: str) -> None:
    assert writes(ast.parse(code))


@pytest.mark.parametrize("code", ["Path('x').open('rb')", "write_text('x')", "write_json({})", "open('wax.png', 'rb')"])
def test_what_reads_or_shows_is_not(code: str) -> None:
    assert not writes(ast.parse(code))
