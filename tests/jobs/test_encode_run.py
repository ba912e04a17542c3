"""Images to token files from Python, as `vqtok encode` does it."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import draw, save
from tests.jobs.conftest import files_of, stopped
from tokenizer import codec, inputs, jobs
from tokenizer.codec import EncodeOptions
from tokenizer.errors import CheckpointError, ImageError, InputError, OutputError, UsageError
from tokenizer.images import encode_image
from tokenizer.jobs import Outcome
from tokenizer.models import LoadedModel
from tokenizer.tokens import find_token_files, read_tokens


def encoded(*arguments: Any, **options: Any) -> jobs.Totals:
    """Do a whole job."""
    run = jobs.encode(*arguments, **options)
    for _ in run:
        pass
    return run.totals


def test_one_file(photos: Path, loaded: LoadedModel, sources: inputs.Listing, tmp_path: Path) -> None:
    run = jobs.encode([photos], tmp_path / "t.safetensors", loaded)
    assert (run.model, run.total, run.path, run.warnings) == (loaded, 24, tmp_path / "t.safetensors", ())
    assert not list(tmp_path.iterdir()), "nothing is written before the work begins"
    assert list(run) == [Outcome(source.name) for source in sources]
    assert (run.totals.images, run.totals.kept, run.totals.failed) == (24, 0, 0)
    tokens = read_tokens(tmp_path / "t.safetensors")
    assert [image.name for image in tokens.images] == [source.name for source in sources]
    assert tokens.header.model == loaded.fingerprint
    in_memory = codec.collect_tokens(codec.encode_images(loaded.network, sources, EncodeOptions()), tokens.header)
    assert all(map(np.array_equal, tokens.grids, in_memory.grids))


def test_a_checkpoint_by_its_folder(photos: Path, run: Path, loaded: LoadedModel, tmp_path: Path) -> None:
    encoded(str(photos / "a"), str(tmp_path / "a.npy"), str(run), EncodeOptions(image_size=32), device="cpu")
    tokens = read_tokens(tmp_path / "a.npy")
    assert (tokens.header.model, tokens.header.options["resize_mode"]) == (loaded.fingerprint, "crop")
    assert {grid.shape for grid in tokens.grids} == {(4, 4, 1)}


def test_the_name_of_the_output_says_what_is_made(photos: Path, loaded: LoadedModel, tmp_path: Path) -> None:
    encoded([photos], f"{tmp_path}/tree/", loaded, token_format="npy")
    assert (tmp_path / "tree/a/00.png.npy").is_file()
    assert (tmp_path / "tree/manifest.jsonl").is_file()
    encoded([photos], tmp_path / "shards", loaded, shard_size=10)
    assert [Path(file).name for file in find_token_files(tmp_path / "shards").files] == [
        f"shard-00000{number}.safetensors" for number in range(3)
    ]
    for name in ("0.tar", "1.tar"):
        with tarfile.open(tmp_path / name, "w") as archive:
            archive.add(photos / "a/00.png", "00.png")
    encoded([tmp_path / "0.tar", tmp_path / "1.tar"], tmp_path / "of-tars", loaded)
    index = json.loads((tmp_path / "of-tars/index.json").read_text())
    assert [shard["name"] for shard in index["shards"]] == ["0.safetensors", "1.safetensors"]


def test_to_a_stream(photos: Path, loaded: LoadedModel, tmp_path: Path) -> None:
    stream = io.BytesIO()
    run = jobs.encode([photos], stream.write, loaded)
    assert (len(list(run)), run.path, run.is_resumable) == (24, None, False)
    encoded([photos], tmp_path / "t.safetensors", loaded)
    assert stream.getvalue() == (tmp_path / "t.safetensors").read_bytes()


def test_from_a_list_and_from_a_stream(photos: Path, loaded: LoadedModel, tmp_path: Path) -> None:
    listed = io.BytesIO("\n".join(str(path) for path in sorted((photos / "b").iterdir())).encode())
    named = inputs.NamedInputs([photos / "a"], files_from="-", stdin=listed)
    assert encoded(named, tmp_path / "t.safetensors", loaded).images == 16
    image = inputs.NamedInputs(["-"], stdin=io.BytesIO(encode_image(draw(8, 8), "png")))
    assert list(jobs.encode(image, io.BytesIO().write, loaded)) == [Outcome("stdin")]
    assert encoded(inputs.gather_inputs([str(photos)]), tmp_path / "u.safetensors", loaded).images == 24


@pytest.mark.parametrize("output", ["t.safetensors", "tree/", "shards/"])
def test_stopped_and_resumed(photos: Path, loaded: LoadedModel, tmp_path: Path, output: str) -> None:
    size = 5 if output == "shards/" else None
    run = jobs.encode([photos], f"{tmp_path}/{output}", loaded, shard_size=size)
    stopped(iter(run), 9)  # type: ignore[arg-type]
    assert (run.totals.images, run.is_resumable) == (9, True)
    with pytest.raises(OutputError, match="pass --"):
        encoded([photos], f"{tmp_path}/{output}", loaded, shard_size=size)
    totals = encoded([photos], f"{tmp_path}/{output}", loaded, shard_size=size, existing="resume")
    assert totals.images == 24
    assert totals.kept >= 5
    encoded([photos], f"{tmp_path}/whole/{output}", loaded, shard_size=size)
    made = files_of(tmp_path)
    whole = files_of(tmp_path / "whole")
    assert {name: data for name, data in made.items() if not name.startswith("whole/")} == whole


def test_shares_make_the_whole(photos: Path, loaded: LoadedModel, tmp_path: Path) -> None:
    encoded([photos], tmp_path / "whole.safetensors", loaded)
    for part in (2, 0, 1):
        run = jobs.encode([photos], tmp_path / "t.safetensors", loaded, share=(part, 3))
        assert (run.total, len(list(run))) == (None, 8)
    assert (tmp_path / "t.safetensors").read_bytes() == (tmp_path / "whole.safetensors").read_bytes()
    assert encoded([photos / "a"], tmp_path / "none/", loaded, share=(20, 30)).images == 0, "a part without inputs"


def test_what_cannot_be_read(photos: Path, loaded: LoadedModel, tmp_path: Path) -> None:
    save(tmp_path / "in/a.png", draw(8, 8))
    (tmp_path / "in/b.png").write_bytes(b"no image")
    totals = encoded([tmp_path / "in"], tmp_path / "t.safetensors", loaded)
    assert (totals.images, totals.failed, totals.failures[0].name) == (1, 1, "b.png")
    with pytest.raises(ImageError, match=r"^b\.png: "):
        encoded([tmp_path / "in"], tmp_path / "u.safetensors", loaded, on_error="fail")
    with pytest.raises(InputError, match=r"^0 of 1 images encoded, the first failed with: "):
        encoded([tmp_path / "in/b.png"], tmp_path / "v.safetensors", loaded)
    with pytest.raises(InputError, match=r"^0 of 1 images encoded"):
        encoded([tmp_path / "in/b.png"], tmp_path / "w/", loaded, share=(0, 2))


def test_a_part_without_images_ends_well_under_torchrun(
    loaded: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    (tmp_path / "b.png").write_bytes(b"no image")
    assert encoded([tmp_path / "b.png"], tmp_path / "w/", loaded, share=(0, 2)).failed == 1


@pytest.mark.parametrize(
    ("arguments", "options", "error", "said"),
    [
        ((["a"], ""), {}, UsageError, "no output: pass -o FILE.safetensors"),
        ((["a"], "t.txt"), {}, UsageError, "t.txt has the suffix .txt: use one of .npy, .safetensors, .tar"),
        ((["a"], "t.npy"), {"token_format": "tar"}, UsageError, "t.npy and --format tar contradict each other"),
        ((["a"], "t.npy"), {"shard_size": 3}, UsageError, "--shard-size makes several files, t.npy is one"),
        ((["a"], print), {"shard_size": 3}, UsageError, "--shard-size makes several files, - is one"),
        ((["a"], print), {"existing": "resume"}, UsageError, "-o - cannot be combined with --resume or --shard"),
        ((["a"], print), {"share": (1, 2)}, UsageError, "-o - cannot be combined with --resume or --shard"),
        ((["a"], "there.npy"), {}, OutputError, "there.npy exists: pass --overwrite"),
        ((["a"], "beside.npy"), {}, OutputError, "beside.npy.jsonl exists: pass --overwrite"),
        ((["a"], "there.npy/t.npy"), {}, OutputError, "there.npy is not a folder"),
        (([], "t.npy"), {}, UsageError, "no input: name images"),
        ((["gone"], "t.npy"), {}, InputError, "gone does not exist"),
        ((["a"], "t.npy", "gone"), {}, CheckpointError, "there is no checkpoint gone"),
    ],
)
def test_wrong_calls(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[Any, ...],
    options: dict[str, Any],
    error: type[Exception],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    save(Path("a/1.png"), draw(8, 8))
    Path("there.npy").touch()
    Path("beside.npy.jsonl").touch()
    before = files_of(tmp_path)
    with pytest.raises(error) as raised:
        jobs.encode(*arguments, **options)
    assert said in str(raised.value)
    assert files_of(tmp_path) == before


def test_sizes_and_modes_that_contradict() -> None:
    with pytest.raises(UsageError, match="--resize-mode pad needs --image-size"):
        EncodeOptions(resize_mode="pad")
    with pytest.raises(UsageError, match="none keeps sizes, --image-size sets them"):
        EncodeOptions(image_size=32, resize_mode="none")
    assert (EncodeOptions().mode, EncodeOptions(32).mode, EncodeOptions(32, "pad").mode) == ("none", "crop", "pad")
    assert (EncodeOptions(workers=0).readers, EncodeOptions(workers=3).readers) == (1, 3)
    assert 1 <= EncodeOptions().readers <= 8


def test_a_file_beside_a_folder_is_not_its_sidecar(photos: Path, loaded: LoadedModel, tmp_path: Path) -> None:
    (tmp_path / "tokens.jsonl").touch()
    assert encoded([photos / "a"], tmp_path / "tokens/", loaded).images == 8


def test_what_is_refused_does_not_wait_for_torch() -> None:
    code = "\n".join(
        [
            "import sys",
            "from tokenizer import jobs",
            "from tokenizer.errors import VqtokError",
            "for call in (lambda: jobs.encode(['gone'], 't.npy'), lambda: jobs.decode(['gone.npy'], 'x.tiff')):",
            "    try:",
            "        call()",
            "    except VqtokError as error:",
            "        print(error)",
            "print('torch' in sys.modules)",
        ]
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    first, second, loaded = done.stdout.splitlines()
    assert (first, loaded) == ("gone does not exist", "False")
    assert second.startswith("x.tiff has the suffix .tiff")
