"""Journals: what is safe comes back, what is not is cut off, and nothing else is believed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tokenizer.errors import InputError, OutputError
from tokenizer.tokens import Journal, crc32_of, is_finished

JOB = {"model": "m", "options": {"image_size": 64}}


def content(journal: Journal, name: str) -> bytes:
    return b"".join(journal.stored(name).pieces())


def killed(folder: Path, *, after: bytes = b"") -> None:
    """Leave a journal as a process does that is killed after two inputs are safe, with more on its way."""
    with Journal(folder, JOB) as journal:
        journal.append("rows", b"one")
        journal.append("names", b"1")
        journal.mark(1)
        journal.append("rows", b"two")
        journal.mark(2)
        journal.commit()
    with (folder / "rows").open("ab") as file:
        file.write(after)


def test_what_is_safe_comes_back(tmp_path: Path) -> None:
    killed(tmp_path / "j", after=b"half")
    (tmp_path / "j" / "other").write_bytes(b"never committed")
    with Journal(tmp_path / "j", JOB, resume=True) as journal:
        assert journal.done == 2
        assert (content(journal, "rows"), content(journal, "names")) == (b"onetwo", b"1")
        assert content(journal, "nothing") == b""
        journal.append("rows", b"3")
        journal.mark(3)
        journal.commit()
        assert (tmp_path / "j" / "rows").read_bytes() == b"onetwo3"
    assert not (tmp_path / "j" / "other").exists()


def test_what_is_not_marked_is_not_kept(tmp_path: Path) -> None:
    with Journal(tmp_path / "j", JOB) as journal:
        journal.append("rows", b"one")
        journal.mark(1)
        journal.append("rows", b"tw")
    with Journal(tmp_path / "j", JOB, resume=True) as journal:
        assert (journal.done, content(journal, "rows")) == (1, b"one")


def test_nothing_is_left_where_nothing_was_done(tmp_path: Path) -> None:
    with Journal(tmp_path / "j", JOB) as journal:
        journal.append("rows", b"on")
    assert list(tmp_path.iterdir()) == []


def test_discard(tmp_path: Path) -> None:
    with Journal(tmp_path / "j", JOB) as journal:
        journal.append("rows", b"one")
        journal.mark(1)
        journal.commit()
        journal.discard()
    assert list(tmp_path.iterdir()) == []


def test_neither_resume_nor_overwrite(tmp_path: Path) -> None:
    killed(tmp_path / "j")
    with pytest.raises(OutputError, match=r"j was left unfinished: pass --resume to go on, or --overwrite"):
        Journal(tmp_path / "j", JOB)
    with Journal(tmp_path / "j", JOB, overwrite=True) as journal:
        assert (journal.done, content(journal, "rows")) == (0, b"")
        journal.append("rows", b"new")
        journal.mark(1)
        journal.commit()
        assert content(journal, "rows") == b"new"


def test_another_job_is_named_with_both_values(tmp_path: Path) -> None:
    killed(tmp_path / "j")
    with pytest.raises(InputError, match=r"options\.image_size was 64, now 32.*--overwrite"):
        Journal(tmp_path / "j", {"model": "m", "options": {"image_size": 32}}, resume=True)
    with pytest.raises(InputError, match=r"model was m, now not set; more was not set, now 1"):
        Journal(tmp_path / "j", {"options": {"image_size": 64}, "more": 1}, resume=True)


@pytest.mark.parametrize("damage", ["short", "flipped", "gone", "state", "no state"])
def test_what_is_damaged_is_not_believed(tmp_path: Path, damage: str) -> None:
    killed(tmp_path / "j")
    rows, state = tmp_path / "j" / "rows", tmp_path / "j" / "journal.json"
    if damage == "short":
        os.truncate(rows, 5)
    elif damage == "flipped":
        rows.write_bytes(b"onetwO")
    elif damage == "gone":
        rows.unlink()
    elif damage == "state":
        state.write_text(state.read_text()[:-3])
    else:
        state.unlink()
    with Journal(tmp_path / "j", JOB, resume=True) as journal:
        assert (journal.done, content(journal, "rows"), content(journal, "names")) == (0, b"", b"")


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with Journal(tmp_path / "j", JOB) as journal:
        code = "import sys; from pathlib import Path; from tokenizer.tokens import Journal; "
        code += f"Journal(Path(sys.argv[1]), {JOB}, resume=True)"
        done = subprocess.run([sys.executable, "-c", code, tmp_path / "j"], capture_output=True, text=True)
        assert done.returncode == 1
        assert "is being written by another process" in done.stderr
        journal.append("rows", b"x")
        journal.mark(1)
    with Journal(tmp_path / "j", JOB, resume=True) as journal:  # it was released
        assert journal.done == 1


def test_finished(tmp_path: Path) -> None:
    killed(tmp_path / "j")
    assert not is_finished(tmp_path / "j")
    with Journal(tmp_path / "j", JOB, resume=True) as journal:
        journal.finish()
    assert is_finished(tmp_path / "j")
    with Journal(tmp_path / "j", JOB, resume=True) as journal:
        assert journal.finished
    assert not is_finished(tmp_path / "gone")


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was safe before stays, and what did not fit is added where there is room again."""
    killed(tmp_path / "j")
    journal = Journal(tmp_path / "j", JOB, resume=True)
    journal.append("rows", b"three")
    journal.mark(3)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OutputError, match=r"cannot write .*rows: No space left on device$"):
            journal.commit()
    assert json.loads((tmp_path / "j" / "journal.json").read_text())["done"] == 2
    journal.commit()
    assert content(journal, "rows") == b"onetwothree"
    journal.discard()


def test_it_is_made_safe_by_itself_when_much_is_pending(tmp_path: Path) -> None:
    with Journal(tmp_path / "j", JOB) as journal:
        for number in range(3):
            journal.append("rows", bytes(2**23))
            journal.mark(number + 1)
        assert (tmp_path / "j" / "rows").stat().st_size >= 2**24
        journal.discard()


def test_crc32_of(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"123456789")
    assert crc32_of(tmp_path / "x") == 0xCBF43926
