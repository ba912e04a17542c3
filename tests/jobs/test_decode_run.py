"""Token files to pictures from Python, as `vqtok decode` does it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.jobs.conftest import files_of, stopped
from tokenizer import codec, inputs, jobs
from tokenizer.errors import InputError, OutputError, TokenFileError, UsageError
from tokenizer.jobs import DecodeOptions, Outcome
from tokenizer.models import LoadedModel
from tokenizer.tokens import TokenSet, tokens_to_bytes, write_tokens


@pytest.fixture(scope="module")
def tokens(loaded: LoadedModel, photos: Path) -> TokenSet:
    options = codec.EncodeOptions()
    header = codec.token_header(loaded.network, loaded.fingerprint, options)
    return codec.collect_tokens(codec.encode_images(loaded.network, inputs.find_images([photos]), options), header)


@pytest.fixture
def whole(loaded: LoadedModel, tokens: TokenSet, tmp_path: Path) -> dict[str, bytes]:
    """All pictures."""
    decoded([tokens], tmp_path / "wanted", loaded)
    return files_of(tmp_path / "wanted")


def decoded(*arguments: Any, **options: Any) -> jobs.Totals:
    """Do a whole job."""
    run = jobs.decode(*arguments, **options)
    for _ in run:
        pass
    return run.totals


def pixels(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


def test_tokens_in_memory_into_a_folder(loaded: LoadedModel, tokens: TokenSet, tmp_path: Path) -> None:
    run = jobs.decode(tokens, tmp_path / "back", loaded)
    assert (run.model, run.total, run.path, run.warnings) == (loaded, 24, tmp_path / "back", ())
    assert not list(tmp_path.iterdir()), "nothing is written before the work begins"
    paths = [tmp_path / "back" / image.name for image in tokens.images]
    assert list(run) == [Outcome(image.name, path=path) for image, path in zip(tokens.images, paths, strict=True)]
    rows = zip(tokens.images, tokens.grids, strict=True)
    for path, (record, canvas) in zip(paths, codec.decode_tokens(loaded.network, rows), strict=True):
        assert record.placement is not None
        assert np.array_equal(pixels(path.read_bytes()), record.placement.restore(canvas))
    assert (run.totals.images, run.totals.kept) == (24, 0)


@pytest.mark.parametrize("kind", ["shard", "folder", "stream"])
def test_a_shard_a_folder_and_a_stream(
    loaded: LoadedModel, photos: Path, tokens: TokenSet, tmp_path: Path, whole: dict[str, bytes], kind: str
) -> None:
    for _ in jobs.encode([photos], tmp_path / "shards", loaded, shard_size=10):
        pass
    named, count, stdin = {
        "shard": ([tmp_path / "shards/shard-000001.safetensors"], 10, None),
        "folder": (f"{tmp_path}/shards/", 24, None),
        "stream": (["-"], 24, io.BytesIO(tokens_to_bytes(tokens, "safetensors"))),
    }[kind]
    assert decoded(named, f"{tmp_path}/back/", loaded, stdin=stdin).images == count
    made = files_of(tmp_path / "back")
    assert (len(made), made.items() <= whole.items()) == (count, True)


def test_the_checkpoint_that_ships_and_made_the_tokens(photos: Path, tmp_path: Path) -> None:
    for _ in jobs.encode([photos / "a/00.png"], tmp_path / "t.npy", "photo-f16", device="cpu"):
        pass
    run = jobs.decode([tmp_path / "t.npy"], tmp_path / "back.png", device="cpu")
    assert run.model.folder.name == "photo-f16"
    assert [outcome.name for outcome in run] == ["00.png"]
    assert pixels((tmp_path / "back.png").read_bytes()).shape == (64, 64, 3)


def test_unfinished_shards_are_told(loaded: LoadedModel, photos: Path, tmp_path: Path) -> None:
    stopped(iter(jobs.encode([photos], tmp_path / "shards", loaded, shard_size=10)), 12)  # type: ignore[arg-type]
    run = jobs.decode([tmp_path / "shards"], tmp_path / "back", loaded)
    assert run.warnings == (f"{tmp_path}/shards is unfinished: 1 token files are whole, vqtok encode --resume goes on",)
    assert len(list(run)) == 10


def test_stopped_and_resumed(loaded: LoadedModel, tokens: TokenSet, tmp_path: Path, whole: dict[str, bytes]) -> None:
    run = jobs.decode(tokens, tmp_path / "back", loaded)
    stopped(iter(run), 5)  # type: ignore[arg-type]
    assert (run.totals.images, run.is_resumable) == (5, True)
    before = len(files_of(tmp_path / "back"))
    assert 5 <= before < 24
    with pytest.raises(OutputError, match="back exists: pass --overwrite"):
        decoded([tokens], tmp_path / "back", loaded)
    totals = decoded([tokens], tmp_path / "back", loaded, existing="resume")
    assert (totals.images, totals.kept) == (24, before)
    assert files_of(tmp_path / "back") == whole
    assert decoded([tokens], tmp_path / "back", loaded, existing="overwrite").kept == 0


def test_shares_make_the_whole(loaded: LoadedModel, tokens: TokenSet, tmp_path: Path, whole: dict[str, bytes]) -> None:
    for part in (2, 0, 1):
        run = jobs.decode([tokens], tmp_path / "back", loaded, share=(part, 3))
        assert (run.total, len(list(run))) == (8, 8)
    assert files_of(tmp_path / "back") == whole
    with pytest.raises(OutputError, match=r"png exists: pass --overwrite"):
        decoded([tokens], tmp_path / "back", loaded, share=(1, 3))


def test_a_contact_sheet(loaded: LoadedModel, tokens: TokenSet, tmp_path: Path, whole: dict[str, bytes]) -> None:
    options = DecodeOptions(contact_sheet=True, columns=2, index=":4")
    run = jobs.decode([tokens], tmp_path / "sheet.png", loaded, options)
    assert [outcome.name for outcome in run] == [image.name for image in tokens.images[:4]]
    assert not run.is_resumable
    sheet = pixels((tmp_path / "sheet.png").read_bytes())
    first = pixels(whole[tokens.images[0].name])
    height, width = first.shape[:2]
    assert np.array_equal(sheet[:height, :width], first)
    stream = io.BytesIO()
    decoded([tokens], stream.write, loaded, options)
    assert np.array_equal(pixels(stream.getvalue()), sheet)


def test_one_image(loaded: LoadedModel, tokens: TokenSet, whole: dict[str, bytes]) -> None:
    stream = io.BytesIO()
    assert decoded([tokens], stream.write, loaded, DecodeOptions(index="-1")).images == 1
    assert stream.getvalue() == whole[tokens.images[-1].name]
    decoded([tokens], stream.write, loaded, DecodeOptions(index="3", image_format="webp"))
    assert b"WEBP" in stream.getvalue()


def test_sequences(loaded: LoadedModel, tmp_path: Path) -> None:
    np.save(tmp_path / "s.npy", np.zeros((3, 6), np.int64))
    decoded([tmp_path / "s.npy"], tmp_path / "back", loaded, DecodeOptions(grid=(2, 3)))
    assert [pixels(data).shape for data in files_of(tmp_path / "back").values()] == [(16, 24, 3)] * 3


def test_files_that_cannot_be_decoded(loaded: LoadedModel, tokens: TokenSet, tmp_path: Path) -> None:
    write_tokens(tmp_path / "good.safetensors", tokens)
    np.save(tmp_path / "outside.npy", np.full((1, 2, 3), 99))
    (tmp_path / "broken.npy").write_bytes(b"no tokens")
    files = [tmp_path / name for name in ("broken.npy", "outside.npy", "good.safetensors")]
    with pytest.raises(TokenFileError, match=r"broken\.npy"):
        jobs.decode(files, tmp_path / "back", loaded)
    with pytest.raises(TokenFileError, match="token 99 at row 0"):
        decoded(files[1:], tmp_path / "back", loaded)
    assert not (tmp_path / "back").exists()
    run = jobs.decode(files, tmp_path / "back", loaded, on_error="skip")
    outcomes = list(run)
    assert [Path(outcome.name).name for outcome in outcomes[:2]] == ["broken.npy", "outside.npy"]
    assert outcomes[1].reason == "token 99 at row 0 (0, 0) is outside 0..31"
    assert (run.totals.images, run.totals.failed) == (24, 2)
    with pytest.raises(InputError, match=r"^0 of 2 token files can be decoded$"):
        decoded(files[:2], tmp_path / "none", loaded, on_error="skip")
    with pytest.raises(InputError, match=r"^there are no tokens to decode$"):
        decoded([TokenSet(tokens.header, [], [])], tmp_path / "none", loaded)


@pytest.mark.parametrize(
    ("output", "options", "arguments", "error", "said"),
    [
        ("", {}, {}, UsageError, "no output: pass -o FOLDER/"),
        ("x.tiff", {}, {}, UsageError, "x.tiff has the suffix .tiff: use .png, .jpg or .webp"),
        ("x.png", {"image_format": "jpg"}, {}, UsageError, "x.png and --image-format jpg contradict each other"),
        ("x.png", {}, {}, UsageError, "24 images do not fit x.png: name a folder, pick one with --index"),
        (print, {}, {}, UsageError, "24 images do not fit -: name a folder"),
        ("back", {"contact_sheet": True}, {}, UsageError, "a contact sheet is one picture, back is a folder"),
        ("x.png", {"columns": 3}, {}, UsageError, "--columns is for --contact-sheet: pass both"),
        ("x.png", {}, {"existing": "resume"}, UsageError, "are for a folder of pictures, x.png is one file"),
        ("x.png", {}, {"share": (0, 2)}, UsageError, "are for a folder of pictures, x.png is one file"),
        ("back", {"index": "99"}, {}, UsageError, "--index 99 selects none of 24 images"),
        ("back", {"index": "a:b"}, {}, UsageError, "--index is 'a:b', expected A:B or one row number"),
        ("back", {"codes": 2}, {}, UsageError, "--codes is 2, this checkpoint decodes the first 1 of 1 codes"),
        ("back", {"grid": (2, 3)}, {}, UsageError, "says itself what its grids are: drop --grid"),
        ("full", {}, {}, OutputError, "full exists: pass --overwrite"),
        ("full/x.txt/back", {}, {}, OutputError, "full/x.txt is not a folder"),
    ],
)
def test_wrong_calls(
    loaded: LoadedModel,
    tokens: TokenSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    output: Any,
    options: dict[str, Any],
    arguments: dict[str, Any],
    error: type[Exception],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("full").mkdir()
    Path("full/x.txt").touch()
    with pytest.raises(error) as raised:
        jobs.decode([tokens], output, loaded, DecodeOptions(**options), **arguments)
    assert said in str(raised.value)
    assert list(files_of(tmp_path)) == ["full/x.txt"]


def test_tokens_of_another_checkpoint(loaded: LoadedModel, tokens: TokenSet, tmp_path: Path) -> None:
    other = LoadedModel(loaded.network, "f" * 64, (), loaded.device, loaded.folder)
    with pytest.raises(TokenFileError, match="it was made by the checkpoint"):
        decoded([tokens], tmp_path / "back", other)
    options = DecodeOptions(allow_mismatch=True)
    assert decoded([tokens], tmp_path / "back", other, options).images == 24
    with pytest.raises(UsageError, match=r"tokens 1 was made by checkpoint .*, which does not ship with vqtok"):
        jobs.decode([tokens], tmp_path / "more")
