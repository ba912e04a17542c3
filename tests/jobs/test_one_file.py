"""All tokens in one file: alone, resumed, in parts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.jobs.conftest import broken, files_of, stopped
from tokenizer import codec, inputs
from tokenizer.errors import ImageError, InputError, OutputError, UsageError
from tokenizer.jobs import EncodeJob, Outcome, encode_to_file, encode_to_stream
from tokenizer.tokens import read_tokens

Make = Callable[..., EncodeJob]


def whole(job: EncodeJob, sources: inputs.Listing, path: Path) -> bytes:
    list(encode_to_file(job, sources, path))
    return path.read_bytes()


def test_one_file(job: Make, sources: inputs.Listing, tmp_path: Path) -> None:
    outcomes = list(encode_to_file(job(), sources, tmp_path / "t.safetensors"))
    assert outcomes == [Outcome(source.name) for source in sources]
    tokens = read_tokens(tmp_path / "t.safetensors")
    in_memory = codec.collect_tokens(codec.encode_images(job().model, sources, job().options), job().header)
    assert list(tokens.images) == list(in_memory.images)
    assert all(np.array_equal(a, b) for a, b in zip(tokens.grids, in_memory.grids, strict=True))
    assert tokens.header == job().header
    assert [path.name for path in tmp_path.iterdir()] == ["t.safetensors"]


def test_failures_keep_their_place(job: Make, sources: inputs.Listing, tmp_path: Path) -> None:
    mixed = [sources[0], broken(), sources[1]]
    outcomes = list(encode_to_file(job(), mixed, tmp_path / "t.safetensors"))
    assert [(o.name, o.reason) for o in outcomes][1] == ("broken.png", "it is broken")
    tokens = read_tokens(tmp_path / "t.safetensors")
    assert [record.name for record in tokens.images] == [sources[0].name, sources[1].name]
    assert [failure.reason for failure in tokens.failed] == ["it is broken"]


def test_stop_at_a_failure(job: Make, sources: inputs.Listing, tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    with pytest.raises(ImageError, match=r"^broken\.png: it is broken$"):
        list(encode_to_file(job(on_error="fail"), [*sources[:3], broken()], path))
    again = list(encode_to_file(job(existing="resume"), sources, path))
    assert [outcome.kept for outcome in again] == [True] * 3 + [False] * 21
    assert path.read_bytes() == whole(job(), sources, tmp_path / "w.safetensors")


def test_nothing_is_written_without_an_image(job: Make, tmp_path: Path) -> None:
    assert [outcome.reason for outcome in encode_to_file(job(), [broken()], tmp_path / "t.npy")] == ["it is broken"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", ["npy", "safetensors", "tar"])
@pytest.mark.parametrize("after", [0, 1, 7, 24])
def test_stopped_and_resumed(job: Make, sources: inputs.Listing, tmp_path: Path, suffix: str, after: int) -> None:
    options = {"image_size": 32, "resize_mode": "crop", "batch_size": 4}
    path = tmp_path / f"t.{suffix}"
    stopped(encode_to_file(job(suffix, options), sources, path), after)
    assert not path.exists()
    outcomes = list(encode_to_file(job(suffix, options, existing="resume"), sources, path))
    assert [outcome.name for outcome in outcomes] == [source.name for source in sources]
    assert sum(outcome.kept for outcome in outcomes) == after
    (tmp_path / "w").mkdir()
    list(encode_to_file(job(suffix, options), sources, tmp_path / "w" / path.name))
    made = files_of(tmp_path)
    for name, data in files_of(tmp_path / "w").items():
        assert made.pop(name) == data
        assert made.pop(f"w/{name}") == data
    assert made == {}


def test_resumed_with_other_settings(job: Make, sources: inputs.Listing, tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    stopped(encode_to_file(job(), sources, path), 9)
    with pytest.raises(
        InputError, match=r"options\.image_size was None, now 32; options\.resize_mode was none, now pad"
    ):
        list(encode_to_file(job(options={"image_size": 32, "resize_mode": "pad"}, existing="resume"), sources, path))
    with pytest.raises(OutputError, match="left unfinished: pass --resume to go on, or --overwrite"):
        list(encode_to_file(job(), sources, path))
    list(encode_to_file(job(existing="overwrite"), sources, path))
    assert [path.name for path in tmp_path.iterdir()] == ["t.safetensors"]


def test_resumed_with_other_inputs(job: Make, sources: inputs.Listing, tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    stopped(encode_to_file(job(), sources, path), 9)
    with pytest.raises(InputError, match=r"cannot resume: input 1 was a/00\.png, now it is a/03\.png"):
        list(encode_to_file(job(existing="resume"), sources[1:], path))
    with pytest.raises(InputError, match=r"input 3 was a/06\.png, now it is missing"):
        list(encode_to_file(job(existing="resume"), sources[:2], path))


def test_a_finished_file(job: Make, sources: inputs.Listing, tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    before = whole(job(), [*sources, broken()], path)  # type: ignore[arg-type]
    with pytest.raises(OutputError, match="exists: pass --overwrite"):
        list(encode_to_file(job(), sources, path))
    outcomes = list(encode_to_file(job(existing="resume"), [*sources, broken()], path))
    assert [outcome.kept for outcome in outcomes] == [True] * 25
    assert outcomes[-1].reason == "it is broken"
    assert path.read_bytes() == before
    with pytest.raises(InputError, match="made of more images than there are now"):
        list(encode_to_file(job(existing="resume"), sources, path))
    with pytest.raises(InputError, match=r"made without other\.png"):
        list(encode_to_file(job(existing="resume"), [*sources, broken(), broken("other.png")], path))
    with pytest.raises(InputError, match=r"options\.alpha was #ffffff, now #000000"):
        list(encode_to_file(job(options={"alpha": (0, 0, 0)}, existing="resume"), sources, path))


def test_a_grid_that_does_not_fit(job: Make, sources: inputs.Listing, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has a 6x9 grid, others 8x8"):
        list(encode_to_file(job("npy"), sources, tmp_path / "t.npy"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("suffix", "parts"), [("npy", 3), ("safetensors", 5), ("safetensors", 30)])
def test_parts_in_any_order_are_the_whole(
    job: Make, sources: inputs.Listing, tmp_path: Path, suffix: str, parts: int
) -> None:
    options = {"image_size": 32, "resize_mode": "crop"} if suffix == "npy" else {}
    (tmp_path / "w").mkdir()
    wanted = whole(job(suffix, options), sources, tmp_path / "w" / f"t.{suffix}")
    names: list[str] = []
    order = [*range(1, parts), 0]
    for part in order:
        assert not (tmp_path / f"t.{suffix}").exists()
        names += [
            o.name for o in encode_to_file(job(suffix, options), sources, tmp_path / f"t.{suffix}", (part, parts))
        ]
    assert sorted(names) == sorted(source.name for source in sources)
    assert (tmp_path / f"t.{suffix}").read_bytes() == wanted
    assert {path.name for path in tmp_path.iterdir()} == {"w", *(p.name for p in (tmp_path / "w").iterdir())}
    # All of it is done: a part that is asked for once more has nothing to do.
    again = list(encode_to_file(job(suffix, options, existing="resume"), sources, tmp_path / f"t.{suffix}", (1, parts)))
    assert all(outcome.kept for outcome in again)


def test_parts_of_another_split(job: Make, sources: inputs.Listing, tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    list(encode_to_file(job(), sources, path, (0, 3)))
    with pytest.raises(InputError, match="parts was 3, now 4"):
        list(encode_to_file(job(existing="resume"), sources, path, (0, 4)))
    with pytest.raises(InputError, match="inputs was 24, now 20"):
        list(encode_to_file(job(existing="resume"), sources[:20], path, (0, 3)))


def test_a_stream_has_no_parts(job: Make, sources: inputs.Listing, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="needs files or folders, not archives: pass --shard-size"):
        list(encode_to_file(job(), iter(sources), tmp_path / "t.safetensors", (0, 3)))


@pytest.mark.parametrize("file_format", ["npy", "safetensors", "tar"])
def test_to_a_stream(job: Make, sources: inputs.Listing, tmp_path: Path, file_format: str) -> None:
    options = {"image_size": 32, "resize_mode": "crop"}
    pieces: list[bytes] = []
    assert len(list(encode_to_stream(job(file_format, options), sources, pieces.append))) == 24
    assert b"".join(pieces) == whole(job(file_format, options), sources, tmp_path / f"t.{file_format}")
    assert list(encode_to_stream(job(file_format, options), [broken()], pieces.clear)) == [  # type: ignore[arg-type]
        Outcome("broken.png", "it is broken")
    ]
    assert pieces


def test_killed_before_what_was_joined_is_gone(job: Make, sources: inputs.Listing, tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    before = whole(job(), sources, path)
    (tmp_path / "t.safetensors.parts/1.partial").mkdir(parents=True)
    assert all(outcome.kept for outcome in encode_to_file(job(existing="resume"), sources, path, (0, 2)))
    (tmp_path / "t.safetensors.partial").mkdir()  # and before rows that were written are gone
    assert len(list(encode_to_file(job(existing="resume"), sources, path))) == 24
    assert [file.name for file in tmp_path.iterdir()] == ["t.safetensors"]
    assert path.read_bytes() == before
