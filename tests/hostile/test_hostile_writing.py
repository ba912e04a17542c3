"""Names, links and journals that would have something written, cut off or lost elsewhere."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import unicodedata
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cli.__main__ import main
from tests.conftest import draw
from tests.hostile.conftest import untouched
from tests.tokens.conftest import header_with, lines_of, made, npy, one, row_with, with_header
from tokenizer import codec
from tokenizer.errors import InputError, OutputError, TokenFileError
from tokenizer.files import FileNames, path_beneath, safe_name
from tokenizer.images import Source
from tokenizer.jobs import EncodeJob, encode_to_tree
from tokenizer.jobs.shards import _read_mark
from tokenizer.models import fingerprint_of, load_checkpoint
from tokenizer.tokens import (
    Header,
    ImageRecord,
    Journal,
    StackWriter,
    TokenSet,
    earlier_outcomes,
    is_finished,
    read_tokens,
    write_tokens,
)


def decode(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr("sys.argv", ["vqtok", "decode", *map(str, arguments), "-q"])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


def named(run: Path, path: Path, names: list[str]) -> Path:
    """Write a token file of the run's, of one position an image."""
    header = Header(fingerprint_of(run), (32,), 8, {}, {})
    records = [ImageRecord(name, (1, 1)) for name in names]
    write_tokens(path, TokenSet(header, records, [np.full((1, 1, 1), number % 32) for number in range(len(names))]))
    return path


NAMES = [
    *(
        "../up.png",
        "/etc/root.png",
        "a/../../b.png",
        "C:\\windows\\x.png",
        "C:y.png",
        "c:z.png",
        "\\\\host\\share\\n.png",
    ),
    *("n\0ul.png", "new\nline.png", "x" * 10_000, "x" * 10_000 + "y", "deep/" * 3000 + "p.png", "", ".", "..", "a//b"),
    *("Case.png", "case.png", "CASE.PNG", "case.jpg", "\u00e9.png", "e\u0301.png", "\ufb01.png", "fi.png"),
    *("same.png", "same.png", "same.png-1", "\ud800.png", "\u202egnp.exe", "[bold]", "-rf", "~", "con", "nul.png"),
]


def test_decode_writes_every_image_and_nowhere_else(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = named(run, tmp_path / "t.safetensors", NAMES)
    (tmp_path / "in").mkdir()
    assert decode(monkeypatch, path, "-m", run, "-o", tmp_path / "in" / "back") == 0
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["in", "t.safetensors"]
    assert [entry.name for entry in (tmp_path / "in").iterdir()] == ["back"]
    found = [file for file in (tmp_path / "in" / "back").rglob("*") if file.is_file()]
    assert len(found) == len(NAMES)
    folded = {unicodedata.normalize("NFC", str(file)).casefold() for file in found}
    assert len(folded) == len(NAMES)  # of one folder each, where case or accents do not count


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(max_size=12) | st.text("./\\:Cc\0aA\u0301", max_size=8), max_size=12))
def test_names_of_any_kind(names: list[str]) -> None:
    chosen = FileNames(lambda: names, ".png")
    files = [chosen.of(row, name) for row, name in enumerate(names)]
    assert len({unicodedata.normalize("NFC", file).casefold() for file in files}) == len(files)
    for file in files:
        parts = file.split("/")
        assert not {"", ".", ".."} & set(parts)
        assert not any(re.match("[A-Za-z]:", part) for part in parts)
        assert "\0" not in file
        assert max(len(os.fsencode(part)) for part in parts) <= 255


@settings(max_examples=50, deadline=None)
@given(
    st.text(min_size=1, max_size=5), st.integers(60, 3000), st.sampled_from(["", ".png", "." + "s" * 60, "/x" * 700])
)
def test_long_names_stay_apart(text: str, count: int, suffix: str) -> None:
    first, second = (safe_name(text * count + more + suffix) for more in ("", "1"))
    assert first != second
    for name in (first, second):
        assert safe_name(name) == name
        assert len(os.fsencode(name)) < 1400


def test_links_in_the_output_are_not_followed(
    run: Path, tmp_path: Path, outside: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = named(run, tmp_path / "t.safetensors", ["link/rows", "b.png"])
    back = tmp_path / "back"
    back.mkdir()
    (back / "link").symlink_to(outside)
    (back / "b.png").symlink_to(outside / "rows")
    for flag in ("--overwrite", "--resume"):
        assert decode(monkeypatch, path, "-m", run, "-o", back, flag) == 1
        assert "leads out of" in capsys.readouterr().err
    (back / "link").unlink()
    assert decode(monkeypatch, path, "-m", run, "-o", back, "--overwrite") == 0
    assert not (back / "b.png").is_symlink()  # replaced, not written through
    assert untouched(outside)
    (tmp_path / "link").symlink_to(back)
    assert decode(monkeypatch, path, "-m", run, "-o", tmp_path / "link", "--overwrite") == 0  # the output itself may be


def test_links_within_the_output_are_followed(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert path_beneath(tmp_path, "b/x") == tmp_path / "b" / "x"


def job(run: Path, **options: Any) -> EncodeJob:
    model = load_checkpoint(run)
    chosen = codec.EncodeOptions()
    return EncodeJob(model, chosen, codec.token_header(model, "f" * 64, chosen), "npy", **options)


def test_two_images_of_one_file_in_a_tree(run: Path, tmp_path: Path, outside: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(draw(8, 8)).save(buffer, "PNG")
    for number, names in enumerate((["a.png", "../a.png"], ["a/b", "a\\b"])):
        sources = [Source(name, io.BytesIO(buffer.getvalue())) for name in names]
        for options in ({}, {"existing": "resume"}):
            with pytest.raises(OutputError, match=r"two images would be .*: name one token file, or"):
                list(encode_to_tree(job(run, **options), sources, tmp_path / f"t{number}"))
    (tmp_path / "t2").mkdir()
    (tmp_path / "t2" / "link").symlink_to(outside)
    with pytest.raises(OutputError, match="leads out of"):
        list(
            encode_to_tree(
                job(run, existing="overwrite"), [Source("link/x", io.BytesIO(buffer.getvalue()))], tmp_path / "t2"
            )
        )
    assert untouched(outside)


HEADER = made([(2, 3)]).header
ROWS = bytes(12)


def journal(folder: Path, lines: bytes, **changes: Any) -> Path:
    """Lay out what a process leaves that was killed, with checksums that are right."""
    folder.mkdir(exist_ok=True)
    files = {"manifest": [len(lines), zlib.crc32(lines)], "rows": [len(ROWS), zlib.crc32(ROWS)]}
    for name, data in (("manifest", lines), ("rows", ROWS)):
        (folder / name).write_bytes(data)
    state = {"job": {}, "done": 1, "finished": False, "files": files, **changes}
    (folder / "journal.json").write_text(json.dumps(state))
    return folder


def test_a_journal_of_its_own(tmp_path: Path) -> None:
    with Journal(journal(tmp_path / "j", lines_of([row_with()])), {}, resume=True) as found:
        assert StackWriter(found, HEADER, "npy").images == 1


@pytest.mark.parametrize(
    "lines",
    [
        *(
            b"\n",
            b"{}\n",
            b"[]\n",
            b"null\n",
            b'{"status":"done"}\n',
            b"[" * 5000 + b"\n",
            b'{"status":"done"',
            b"\xff\n",
        ),
        lines_of([row_with(7)]),
        lines_of([row_with(0, (3, 3))]),
        lines_of([row_with(0), row_with(1)]),
        lines_of([row_with(original=[10**9, 10**9])]),
        lines_of([{"status": "failed", "name": "x"}]),
    ],
)
def test_journals_that_lie(tmp_path: Path, lines: bytes) -> None:
    with Journal(journal(tmp_path / "j", lines), {}, resume=True) as found:
        with pytest.raises(InputError, match=r"j is damaged: .*: pass --overwrite to start anew") as caught:
            StackWriter(found, HEADER, "npy")
        with contextlib.suppress(InputError):
            list(earlier_outcomes(found))
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"done": float("inf")},
        {"done": None},
        {"files": [1]},
        {"files": {"manifest": 3}},
        {"files": {"manifest": [-5, 0]}},
        {"files": {"../outside/rows": [4, zlib.crc32(b"mine")]}},
        {"files": {"/dev/zero": [2**62, 0]}},
        {"files": {"9" * 5000: [4, 0]}},
        {"files": {"manifest": [2**62, 0]}},
    ],
)
def test_states_of_journals_that_lie(tmp_path: Path, outside: Path, changes: dict[str, Any]) -> None:
    """Nothing of them is believed: what they name is begun anew."""
    with Journal(journal(tmp_path / "j", b"", **changes), {}, resume=True) as found:
        assert (found.done, found.stored("manifest").size) == (0, 0)
    assert untouched(outside)


def test_jobs_that_lie(tmp_path: Path) -> None:
    deep: Any = {}
    for _ in range(700):
        deep = {"a": deep}
    for number, described in enumerate([float("nan"), deep, [1], 3, {"model": "other"}]):
        with pytest.raises(InputError, match="cannot resume"):
            Journal(journal(tmp_path / f"{number}", b"", job=described), {"model": "m"}, resume=True)
    (tmp_path / "0" / "journal.json").write_text("[" * 5000)
    assert not is_finished(tmp_path / "0")
    Journal(tmp_path / "0", {}, resume=True).discard()


def test_links_in_a_journal_are_not_followed(tmp_path: Path, outside: Path) -> None:
    (tmp_path / "j").symlink_to(outside)
    for how in ({"resume": True}, {"overwrite": True}):
        with pytest.raises(OutputError, match="j is a link: remove it"):
            Journal(tmp_path / "j", {}, **how)
    folder = journal(tmp_path / "k", lines_of([row_with()]), files={"rows": [4, zlib.crc32(b"mine")]})
    (folder / "rows").unlink()
    (folder / "rows").symlink_to(outside / "rows")
    with Journal(folder, {}, resume=True) as found:
        found.append("rows", b"more")
        found.mark(1)
    assert (folder / "rows").read_bytes() == b"more"
    (folder / "lock").unlink()
    (folder / "lock").symlink_to(outside / "made")
    with pytest.raises(OutputError, match="cannot write"):
        Journal(folder, {}, resume=True)
    (folder / "lock").unlink()
    (folder / "other").mkdir()
    with pytest.raises(OutputError, match="cannot clear"):
        Journal(folder, {}, resume=True)
    assert untouched(outside)


@pytest.mark.parametrize(
    "text", ["", "[]", "[" * 5000, "{}", '{"name":"x","images":Infinity}', '{"name":"x","images":"y"}']
)
def test_marks_that_lie(tmp_path: Path, text: str) -> None:
    (tmp_path / "m.done").write_text(text)
    with pytest.raises(InputError, match=r"m\.done is damaged: delete it, and pass --resume"):
        _read_mark(tmp_path / "m.done")


def test_a_file_of_tokens_that_would_be_executed(tmp_path: Path) -> None:
    """Reading one makes no file, whatever it is."""
    for name, data in [
        ("a.npy", npy(np.zeros((1, 1), object), allow_pickle=True)),
        ("b.npy", b"\x80\x04cos\nsystem\n."),
    ]:
        (tmp_path / name).write_bytes(data)
        with pytest.raises(TokenFileError):
            read_tokens(tmp_path / name)
    with pytest.raises(InputError, match="cannot read"):
        read_tokens(Path("nul\0byte"))
    with pytest.raises(InputError, match="cannot read"):
        read_tokens(tmp_path / "\ud800")
    assert len(read_tokens(with_header(one(), header_with(), [row_with()])).images) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npy", "b.npy"]
