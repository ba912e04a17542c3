"""One token file an image."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.jobs.conftest import broken, files_of, stopped
from tokenizer import inputs
from tokenizer.errors import InputError, OutputError
from tokenizer.images import Source
from tokenizer.jobs import EncodeJob, encode_to_tree
from tokenizer.tokens import MANIFEST_FILE, read_tokens

Make = Callable[..., EncodeJob]


@pytest.mark.parametrize("suffix", ["npy", "safetensors"])
def test_the_tree(job: Make, sources: inputs.Listing, tmp_path: Path, suffix: str) -> None:
    outcomes = list(encode_to_tree(job(suffix), [*sources, broken()], tmp_path / "t"))
    assert [outcome.reason for outcome in outcomes] == [None] * 24 + ["it is broken"]
    found = {path.relative_to(tmp_path / "t").as_posix() for path in (tmp_path / "t").rglob(f"*.{suffix}")}
    assert found == {f"{source.name}.{suffix}" for source in sources}
    first, *lines = (tmp_path / "t" / MANIFEST_FILE).read_bytes().splitlines(keepends=True)
    assert b'"format":"vqtok-tokens"' in first
    assert len(lines) == 25
    assert lines[-1] == b'{"status":"failed","name":"broken.png","reason":"it is broken"}\n'
    assert [path.name for path in (tmp_path / "t").iterdir() if path.name.startswith(".")] == []


def test_resumed(job: Make, sources: inputs.Listing, tmp_path: Path) -> None:
    list(encode_to_tree(job(), sources, tmp_path / "whole"))
    stopped(encode_to_tree(job(), sources, tmp_path / "t"), 20)
    kept = list((tmp_path / "t").rglob("*.safetensors"))
    assert len(kept) == 20
    kept[0].write_bytes(kept[0].read_bytes()[:-7])
    outcomes = list(encode_to_tree(job(existing="resume"), sources, tmp_path / "t"))
    assert [outcome.name for outcome in outcomes] == [source.name for source in sources]
    assert sum(outcome.kept for outcome in outcomes) == len(kept) - 1
    assert files_of(tmp_path / "t") == files_of(tmp_path / "whole")


def test_what_failed_is_tried_again(job: Make, sources: inputs.Listing, tmp_path: Path) -> None:
    name = sources[5].name
    list(encode_to_tree(job(), [*sources[:5], broken(name), *sources[6:]], tmp_path / "t"))
    outcomes = list(encode_to_tree(job(existing="resume"), sources, tmp_path / "t"))
    assert [outcome.name for outcome in outcomes if not outcome.kept] == [name]
    list(encode_to_tree(job(), sources, tmp_path / "whole"))
    assert files_of(tmp_path / "t") == files_of(tmp_path / "whole")


def test_parts(job: Make, sources: inputs.Listing, tmp_path: Path) -> None:
    list(encode_to_tree(job(), sources, tmp_path / "whole"))
    for part in range(3):
        assert len(list(encode_to_tree(job(), sources, tmp_path / "t", (part, 3)))) == 8
    made, wanted = files_of(tmp_path / "t"), files_of(tmp_path / "whole")
    manifests = [made.pop(f"manifest-{part}-of-3.jsonl").splitlines() for part in (1, 2, 3)]
    rows = [line for lines in zip(*(lines[1:] for lines in manifests), strict=True) for line in lines]
    assert rows == wanted.pop(MANIFEST_FILE).splitlines()[1:]
    assert made == wanted


def test_other_settings(job: Make, sources: inputs.Listing, tmp_path: Path) -> None:
    list(encode_to_tree(job(), sources, tmp_path / "t"))
    with pytest.raises(OutputError, match="exists: pass --overwrite"):
        list(encode_to_tree(job(), sources, tmp_path / "t"))
    with pytest.raises(InputError, match=r"options\.alpha was #ffffff, now #000000"):
        list(encode_to_tree(job(options={"alpha": (0, 0, 0)}, existing="resume"), sources, tmp_path / "t"))


def test_names_do_not_lead_out(job: Make, sources: inputs.Listing, tmp_path: Path) -> None:
    names = ["../up.png", "/etc/root.png", "a/../../b.png", "..", "c\\..\\d.png"]
    list(encode_to_tree(job(), [Source(name, sources[0].file) for name in names], tmp_path / "deep" / "t"))
    found = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.safetensors")}
    wanted = ["up.png", "etc/root.png", "a/b.png", "image", "c/d.png"]
    assert found == {f"deep/t/{name}.safetensors" for name in wanted}
    assert {read_tokens(tmp_path / name).images[0].name for name in found} == set(names)


def test_nothing_is_left_of_nothing(job: Make, tmp_path: Path) -> None:
    list(encode_to_tree(job(), [broken()], tmp_path / "t"))
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_goes(job: Make, sources: inputs.Listing, tmp_path: Path) -> None:
    for name in ("a/.00.png.safetensors.0123abcd.tmp", ".index.json.ffffffff.tmp", "a/mine.tmp", ".mine.tmp"):
        (tmp_path / "t" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "t" / name).touch()
    list(encode_to_tree(job(existing="resume"), sources, tmp_path / "t"))
    assert {name for name in files_of(tmp_path / "t") if name.endswith(".tmp")} == {"a/mine.tmp", ".mine.tmp"}
