"""`vqtok encode`."""

from __future__ import annotations

import json
import os
import resource
import shlex
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.cli.conftest import Vqtok
from tests.conftest import draw, save
from tokenizer.codec import readers
from tokenizer.tokens import TokenSet, read_tokens


def names(tokens: TokenSet) -> list[str]:
    return [record.name for record in tokens.images]


def same(left: TokenSet, right: TokenSet) -> bool:
    """Whether two token sets hold the same tokens under the same names, in any order."""
    a, b = (dict(zip(names(t), t.grids, strict=True)) for t in (left, right))
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


@pytest.fixture
def damaged(tmp_path: Path, photos: Path) -> Path:
    """A folder with one good image and five that cannot be read."""
    folder = tmp_path / "damaged"
    save(folder / "good.png", draw(32, 32))
    (folder / "text.png").write_text("hello")
    (folder / "empty[1].png").touch()
    (folder / "short.png").write_bytes((photos / "a/00.png").read_bytes()[:300])
    (folder / "link.png").symlink_to("nowhere")
    os.mkfifo(folder / "pipe.txt")  # no image by its suffix: never opened
    return folder


def test_folder_to_one_file(vqtok: Vqtok, photos: Path, run: Path, tmp_path: Path) -> None:
    result = vqtok("encode", photos, "-m", run, "-o", tmp_path / "t.safetensors")
    assert result.code == 0
    assert result.error.startswith(f"24 of 24 images encoded to {tmp_path}/t.safetensors in ")
    tokens = read_tokens(tmp_path / "t.safetensors")
    assert names(tokens) == sorted(path.relative_to(photos).as_posix() for path in photos.rglob("*.png"))
    assert {grid.shape for grid in tokens.grids} == {(8, 8, 1), (6, 9, 1), (10, 7, 1)}


def test_one_size_to_one_array(vqtok: Vqtok, photos: Path, run: Path, tmp_path: Path) -> None:
    result = vqtok("encode", photos, "-m", run, "-o", tmp_path / "t.npy", "--image-size", 32, "-q", "--json")
    assert (result.code, result.err) == (0, "")
    assert result.json["images"] == 24
    assert result.json["failed"] == []
    array = np.load(tmp_path / "t.npy", mmap_mode="r")
    assert (array.shape, array.dtype) == ((24, 4, 4), np.uint8)
    _, *rows = map(json.loads, (tmp_path / "t.npy.jsonl").read_text().splitlines())
    assert [row["name"] for row in rows] == names(read_tokens(tmp_path / "t.npy"))
    assert [row["row"] for row in rows] == list(range(24))


@pytest.mark.parametrize("suffix", ["npy", "safetensors"])
def test_tree_to_tree(vqtok: Vqtok, photos: Path, run: Path, tmp_path: Path, suffix: str) -> None:
    result = vqtok("encode", photos, "-m", run, "-o", tmp_path / "tokens", "--format", suffix)
    assert (result.code, result.out) == (0, b"")
    written = {path.relative_to(tmp_path / "tokens").as_posix() for path in (tmp_path / "tokens").rglob(f"*.{suffix}")}
    assert written == {f"{path.relative_to(photos).as_posix()}.{suffix}" for path in photos.rglob("*.png")}


def test_several_grids_do_not_fit_one_array(vqtok: Vqtok, photos: Path, run: Path, tmp_path: Path) -> None:
    result = vqtok("encode", photos, "-m", run, "-o", tmp_path / "t.npy")
    assert result.code == 2
    assert "b/01.png has a 6x9 grid, others 8x8" in result.error
    assert "Pass --image-size, or write .safetensors or a folder" in result.error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", ["crop", "pad", "squash"])
def test_resize_modes(vqtok: Vqtok, photos: Path, run: Path, tmp_path: Path, mode: str) -> None:
    arguments = ["--image-size", 40, *(["--resize-mode", mode] if mode != "crop" else [])]
    assert vqtok("encode", photos / "b", "-m", run, "-o", tmp_path / "t.npy", *arguments).code == 0
    tokens = read_tokens(tmp_path / "t.npy")
    assert {grid.shape for grid in tokens.grids} == {(5, 5, 1)}
    assert {record.placement.mode for record in tokens.images if record.placement} == {mode}


def test_tokens_depend_on_the_image_alone(vqtok: Vqtok, photos: Path, run: Path, tmp_path: Path) -> None:
    files = sorted(photos.rglob("*.png"))
    results = []
    for number, arguments in enumerate(
        [
            [photos],
            [photos, "-b", 1, "-j", 0],
            [photos, "-b", 3, "-j", 4],
            list(reversed(files)),
        ]
    ):
        output = tmp_path / f"{number}.safetensors"
        assert vqtok("encode", *arguments, "-m", run, "-o", output).code == 0
        results.append(read_tokens(output))
    assert all(same(results[0], result) for result in results[1:])
    assert names(results[3]) == list(reversed(names(results[0])))
    for number, file in enumerate(files[:3]):
        output = tmp_path / f"alone{number}.npy"
        assert vqtok("encode", file, "-m", run, "-o", output).code == 0
        assert np.array_equal(read_tokens(output).grids[0], results[0].grids[names(results[0]).index(f"a/{file.name}")])


@pytest.mark.parametrize(("separator", "flags"), [("\n", []), ("\r\n", []), ("\0", ["-0"])])
@pytest.mark.parametrize("where", ["file", "-"])
def test_list_of_files(
    vqtok: Vqtok, photos: Path, run: Path, tmp_path: Path, separator: str, flags: list[str], where: str
) -> None:
    files = sorted((photos / "c").iterdir())
    listed = "".join(f"{file}{separator}" for file in files).encode()
    (tmp_path / "list").write_bytes(listed)
    source = tmp_path / "list" if where == "file" else "-"
    output = tmp_path / "t.safetensors"
    result = vqtok("encode", "--files-from", source, *flags, "-m", run, "-o", output, stdin=listed)
    assert result.code == 0
    assert names(read_tokens(output)) == [file.name for file in files]


def test_one_image_through_stdin_and_stdout(vqtok: Vqtok, photos: Path, run: Path, tmp_path: Path) -> None:
    picture = (photos / "a/00.png").read_bytes()
    result = vqtok("encode", "-", "-m", run, "-o", "-", stdin=picture)
    assert result.code == 0
    assert result.err.startswith("1 of 1 images encoded to stdout in ")
    assert names(read_tokens(result.out)) == ["stdin"]
    array = vqtok("encode", "-", "-m", run, "-o", "-", "--format", "npy", stdin=picture)
    assert np.array_equal(read_tokens(array.out).grids[0], read_tokens(result.out).grids[0])


def test_unreadable_images_are_told_and_left_out(vqtok: Vqtok, damaged: Path, run: Path, tmp_path: Path) -> None:
    output = tmp_path / "t.safetensors"
    result = vqtok("encode", damaged, "-m", run, "-o", output, "--json")
    assert result.code == 3
    reasons = {failure["name"]: failure["reason"] for failure in result.json["failed"]}
    assert reasons == {
        "empty[1].png": "not an image, or of an unknown format",
        "link.png": "it does not exist, or is a link to nothing",
        "short.png": "image file is truncated",
        "text.png": "not an image, or of an unknown format",
    }
    for name, reason in reasons.items():
        assert f"vqtok encode: warning: {name}: {reason}\n" in result.err
    assert "1 of 5 images encoded" in result.err
    tokens = read_tokens(output)
    assert names(tokens) == ["good.png"]
    assert [failure.name for failure in tokens.failed] == sorted(reasons)
    tree = vqtok("encode", damaged, "-m", run, "-o", tmp_path / "tree/")
    assert tree.code == 3
    assert sorted(path.name for path in (tmp_path / "tree").iterdir()) == ["good.png.safetensors", "manifest.jsonl"]
    lines = (tmp_path / "tree/manifest.jsonl").read_text().splitlines()[1:]
    assert {row["name"]: row.get("reason") for row in map(json.loads, lines)} == {**reasons, "good.png": None}


@pytest.mark.parametrize("output", ["t.safetensors", "tree/"])
def test_unreadable_image_fails_when_asked_to(
    vqtok: Vqtok, damaged: Path, run: Path, tmp_path: Path, output: str
) -> None:
    result = vqtok("encode", damaged, "-m", run, "-o", f"{tmp_path}/{output}", "--on-error", "fail")
    assert result.code == 1
    assert result.error == "vqtok encode: error: empty[1].png: not an image, or of an unknown format"
    assert list(tmp_path.iterdir()) == [damaged]


def test_every_image_failed(vqtok: Vqtok, damaged: Path, run: Path, tmp_path: Path) -> None:
    result = vqtok("encode", damaged / "text.png", damaged / "short.png", "-m", run, "-o", tmp_path / "t.npy")
    assert result.code == 1
    assert result.err.splitlines()[-1].startswith("vqtok encode: error: 0 of 2 images encoded")
    assert not list(tmp_path.glob("t.npy*"))


def test_alpha(vqtok: Vqtok, run: Path, tmp_path: Path) -> None:
    Image.new("RGBA", (32, 32), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    Image.new("RGB", (32, 32), "#102030").save(tmp_path / "plain.png")
    found = {}
    for name in ("clear", "plain"):
        result = vqtok("encode", tmp_path / f"{name}.png", "-m", run, "-o", "-", "--alpha", "#102030")
        found[name] = read_tokens(result.out).grids[0]
    assert np.array_equal(found["clear"], found["plain"])
    refused = vqtok("encode", tmp_path / "clear.png", "-m", run, "-o", "-", "--alpha", "glass")
    assert refused.code == 2
    assert "'glass' is not a color: pass a name such as white, or #rrggbb" in refused.error


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "no input: name images, folders, archives or URLs, - for stdin, or --files-from"),
        (["nowhere"], 1, "nowhere does not exist"),
        (["bare"], 1, "no images in bare: looked for .avif .bmp .gif"),
        (["--files-from", "nolist"], 1, "cannot read the list nolist: No such file or directory"),
        (["--files-from", "/dev/null"], 1, "the list of --files-from names no file"),
        (["--files-from", "-"], 1, "the list of --files-from names no file"),
        (["-"], 1, "stdin is empty: expected one image, or a tar archive"),
        (["-", "x.png"], 2, "- stands for one image or one archive, and cannot be mixed with other inputs"),
        (["-", "--files-from", "-"], 2, "- stands for one image or one archive, and cannot be mixed with other inputs"),
        (["x.png", "-0"], 2, "--null is for --files-from: pass both"),
        (["x.png", "-o", ""], 2, "no output: pass -o FILE.safetensors, -o FILE.npy, -o FILE.tar, -o FOLDER/ or"),
        (["x.png", "-o", "t.bin"], 2, "t.bin has the suffix .bin: use one of .npy, .safetensors, .tar, or end"),
        (["x.png", "-o", "t.npy", "--format", "safetensors"], 2, "t.npy and --format safetensors contradict"),
        (["x.png", "-o", "-", "--json"], 2, "-o - and --json both want stdout: name a file for the tokens"),
        (
            ["x.png", "-o", "-", "--resume"],
            2,
            "-o - cannot be combined with --resume or --shard: name a file for the tokens",
        ),
        (
            ["x.png", "-o", "-", "--shard", "1/2"],
            2,
            "-o - cannot be combined with --resume or --shard: name a file for the tokens",
        ),
        (["x.png", "--shard", "3/2"], 2, "--shard is '3/2', expected I/N with I from 1 to N, such as 3/16"),
        (["x.png", "--shard-size", "9"], 2, "--shard-size makes several files, t.safetensors is one: name a folder"),
        (["x.png", "--resume", "-f"], 2, "--resume keeps what is there, --overwrite replaces it: pass one of the two"),
        (["x.png", "-o", "tree/", "--format", "tar"], 2, "a tar holds many images: pass --shard-size, or name a file"),
        (["x.png", "-o", "x.png/t.npy"], 1, "cannot write x.png/t.npy: x.png is not a folder"),
        (["x.png", "-o", "x.png/tree/"], 1, "cannot write x.png/tree: x.png is not a folder"),
        (["x.png", "--resize-mode", "pad"], 2, "--resize-mode pad needs --image-size"),
        (["x.png", "--resize-mode", "none", "--image-size", "32"], 2, "none keeps sizes, --image-size sets them"),
        (["x.png", "-m", "nomodel"], 1, "there is no checkpoint nomodel: train one with vqtok train"),
        (["x.png", "-m", "bare"], 1, "bare is not a checkpoint: it has no config.json"),
        (["x.png", "-m", "w.pt"], 1, "pickled weights (.pt, .pth, .ckpt) are never opened"),
        (["x.png", "--device", "toaster"], 2, "'toaster' is not a device: pass auto, cpu, cuda, cuda:1 or mps"),
        (["x.png", "--device", "cuda:63"], 1, "there is no cuda:63 on this machine: pass --device auto or"),
    ],
)
def test_wrong_calls(
    vqtok: Vqtok,
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    save(Path("x.png"), draw(32, 32))
    Path("bare").mkdir()
    Path("w.pt").write_bytes(b"\x80\x02")
    defaults = [] if "-o" in arguments else ["-o", "t.safetensors"]
    defaults += [] if "-m" in arguments else ["-m", str(run)]
    result = vqtok("encode", *arguments, *defaults)
    assert result.code == code
    assert result.error.startswith("vqtok encode: error: ")
    assert said in result.error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bare", "w.pt", "x.png"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
@pytest.mark.parametrize("command", [["encode", "-o", "t.npy"], ["report", "--images"], ["train", "-o", "r"]])
def test_cuda_where_there_is_none(vqtok: Vqtok, photos: Path, run: Path, command: list[str]) -> None:
    model = [] if command[0] == "train" else ["-m", run]
    result = vqtok(*command, photos, *model, "--device", "cuda")
    assert result.code == 1
    assert result.error == (
        f"vqtok {command[0]}: error: there is no cuda on this machine: pass --device auto or --device cpu"
    )


def nan(arrays: dict[str, np.ndarray]) -> None:
    first = next(iter(arrays))
    arrays[first] = np.full_like(arrays[first], np.nan)


@pytest.mark.parametrize(
    ("config", "weights", "said"),
    [
        (lambda c: c.update(version=99), None, "has format version 99, this vqtok reads 2: upgrade vqtok"),
        (lambda c: c.update(format="x"), None, "config.json is not that of a vqtok checkpoint"),
        (lambda c: c.pop("network"), None, "config.json is damaged: "),
        (lambda c: c.update(more=1), None, "config.json is damaged: unknown setting 'more'"),
        (lambda c: c["quantizer"].update(name="dived"), None, "do not fit its config.json: unknown quantizer 'dived'"),
        (None, lambda w: w.pop(next(iter(w))), "do not fit its "),
        (None, lambda w: w.update(extra=np.zeros(3, np.float32)), "do not fit its "),
        (None, nan, "hold NaN or infinity"),
    ],
)
def test_checkpoints_that_do_not_fit(
    vqtok: Vqtok,
    photos: Path,
    tmp_path: Path,
    broken: Callable[..., Path],
    config: Callable[[dict[str, Any]], object] | None,
    weights: Callable[[dict[str, np.ndarray]], object] | None,
    said: str,
) -> None:
    result = vqtok("encode", photos / "a", "-m", broken(config, weights), "-o", tmp_path / "t.npy")
    assert result.code == 1
    assert result.error.startswith("vqtok encode: error: ")
    assert str(tmp_path / "broken") in result.error
    assert said in result.error
    assert not list(tmp_path.glob("t.npy*"))


def test_weights_cut_short(vqtok: Vqtok, photos: Path, tmp_path: Path, broken: Callable[..., Path]) -> None:
    folder = broken()
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    result = vqtok("encode", photos / "a", "-m", folder, "-o", tmp_path / "t.npy")
    assert result.code == 1
    assert f"error: cannot read {weights}: " in result.error


def test_nothing_is_replaced_unasked(vqtok: Vqtok, photos: Path, run: Path, tmp_path: Path) -> None:
    paths = {"t.safetensors": "t.safetensors", "u.npy": "u.npy.jsonl", "tree": "tree/x"}
    taken = {output: tmp_path / path for output, path in paths.items()}
    for path in taken.values():
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    for output, path in taken.items():
        result = vqtok("encode", photos / "a", "-m", run, "-o", tmp_path / output)
        assert result.code == 1
        assert f"exists: pass --overwrite to replace it, or name another output: {path}"[:40] in result.error
        assert path.read_text() == "mine"
        assert vqtok("encode", photos / "a", "-m", run, "-o", tmp_path / output, "-f").code == 0
    assert len(read_tokens(tmp_path / "t.safetensors").grids) == len(read_tokens(tmp_path / "u.npy").grids) == 8
    assert len(list((tmp_path / "tree").iterdir())) == 10


def test_odd_names(vqtok: Vqtok, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "odd"
    save(folder / "plain.png", draw(24, 40))
    odd = [b"new\nline.png", b"[bold]x[red].png", b"-o.png", b"bytes\xff.png", b"same.png", b"same.webp", b"-.jpg"]
    for name in odd:
        shutil.copy(folder / "plain.png", folder / os.fsdecode(name))
    wanted = sorted(os.fsdecode(name) for name in [*odd, b"plain.png"])
    monkeypatch.chdir(folder)
    tokens = tmp_path / "t.safetensors"
    assert vqtok("encode", "-m", run, "-o", tokens, "--json", "--", *wanted).code == 0
    assert sorted(names(read_tokens(tokens))) == wanted
    assert vqtok("encode", ".", "-m", run, "-o", tmp_path / "tree").code == 0
    files = sorted(path.name for path in (tmp_path / "tree").glob("*.safetensors"))
    assert files == [f"{name}.safetensors" for name in wanted]
    for source in (tokens, tmp_path / "tree"):
        assert vqtok("decode", source, "-m", run, "-o", tmp_path / "back", "-f").code == 0
        back = {os.fsencode(path.name) for path in (tmp_path / "back").iterdir()}
        assert back == {
            *(name.removesuffix(b".png") + b".png" for name in odd if b"same" not in name and b"jpg" not in name),
            *(b"same.png.png", b"same.webp.png", b"-.png", b"plain.png"),
        }


def test_odd_names_in_messages(vqtok: Vqtok, run: Path, tmp_path: Path) -> None:
    for name in (b"new\nline.png", b"[bold]x[red].png", b"bytes\xff.png"):
        (tmp_path / os.fsdecode(name)).touch()
    save(tmp_path / "good.png", draw(24, 24))
    result = vqtok("encode", tmp_path, "-m", run, "-o", tmp_path / "t.npy", "--json")
    assert result.code == 3
    for shown in ("new\\nline.png", "[bold]x[red].png", "bytes\\udcff.png"):
        assert f"warning: {shown}: not an image" in result.err
    assert {failure["name"] for failure in result.json["failed"]} == {
        "new\nline.png",
        "[bold]x[red].png",
        "bytes\udcff.png",
    }


@pytest.mark.parametrize("output", ["t.safetensors", "t.npy", "tree/"])
def test_full_disk(vqtok: Vqtok, photos: Path, run: Path, tmp_path: Path, output: str) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400, hard))  # bytes; a longer file fails, as on a full disk
    try:
        result = vqtok("encode", photos / "a", "-m", run, "-o", f"{tmp_path}/{output}", "-q")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert result.code == 1
    assert f"cannot write {tmp_path}/{output}"[:-1] in result.error
    assert "File too large" in result.error
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
@pytest.mark.parametrize("output", ["t.safetensors", "tree/"])
def test_stopped_midway(
    vqtok: Vqtok,
    photos: Path,
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    output: str,
    number: int,
    code: int,
) -> None:
    plain, seen = readers.read_scaled, []

    def read_and_stop(*args: Any) -> Any:
        seen.append(args)
        if len(seen) == 10:
            os.kill(os.getpid(), number)
        return plain(*args)

    monkeypatch.setattr(readers, "read_scaled", read_and_stop)
    arguments = ["encode", photos, "-m", run, "-o", f"{tmp_path}/{output}", "-b", 1, "-j", 1]
    result = vqtok(*arguments)
    assert result.code == code
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path for path in kept if path.suffix == ".tmp"] == []
    resumed = shlex.join(["vqtok", "encode", "--resume", *map(str, arguments[1:])])
    hint = f"what is done is kept: {resumed} goes on\n" if kept else ""
    assert result.err == f"{hint}vqtok encode: interrupted: no half-written file is left\n"
    again = vqtok(*arguments, "--resume")
    assert again.code == 0
    assert "24 of 24 images encoded" in again.err
    whole = vqtok("encode", photos, "-m", run, "-o", f"{tmp_path}/whole/{output}")
    assert whole.code == 0
    for path in (tmp_path / "whole").rglob("*.*"):
        assert (tmp_path / path.relative_to(tmp_path / "whole")).read_bytes() == path.read_bytes()
