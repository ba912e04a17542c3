"""What is found out of an output before any work."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tokenizer.errors import OutputError, UsageError
from tokenizer.files import Existing, check_output, existing_of, is_folder, refuse_existing


@pytest.mark.parametrize(
    ("resume", "overwrite", "existing"),
    [(False, False, "refuse"), (True, False, "resume"), (False, True, "overwrite")],
)
def test_existing_of(resume: bool, overwrite: bool, existing: Existing) -> None:
    assert existing_of(resume=resume, overwrite=overwrite) == existing


def test_switches_that_contradict_each_other() -> None:
    with pytest.raises(UsageError, match=r"^--resume keeps .*, --overwrite replaces it: pass one of the two$"):
        existing_of(resume=True, overwrite=True)


def test_is_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("v1.5").mkdir()
    Path("file").touch()
    assert [is_folder(output) for output in ("new", "new/", "a.npy/", "v1.5", ".", "..")] == [True] * 6
    assert [is_folder(output) for output in ("-", "a.npy", "v1.6", "new/a.tar")] == [False] * 4


class TestCheckOutput:
    def test_what_can_be_written(self, tmp_path: Path) -> None:
        for folder in (False, True):
            check_output(tmp_path / "new/a.npy", folder=folder)
        (tmp_path / "empty").mkdir()
        check_output(tmp_path / "empty", folder=True)
        assert [path.name for path in tmp_path.iterdir()] == ["empty"]

    @pytest.mark.parametrize("existing", ["resume", "overwrite"])
    def test_what_is_there(self, tmp_path: Path, existing: Existing) -> None:
        (tmp_path / "full").mkdir()
        (tmp_path / "full/a.npy").touch()
        for path, folder in ((tmp_path / "full", True), (tmp_path / "full/a.npy", False)):
            check_output(path, folder=folder, existing=existing)
            with pytest.raises(OutputError, match=r"exists: pass --overwrite to replace it, or name another output$"):
                check_output(path, folder=folder)

    @pytest.mark.parametrize("existing", ["refuse", "resume", "overwrite"])
    def test_what_is_in_the_way(self, tmp_path: Path, existing: Existing) -> None:
        (tmp_path / "file").touch()
        (tmp_path / "folder").mkdir()
        for path, folder, reason in (
            (tmp_path / "folder", False, "it is a folder"),
            (tmp_path / "file/a.npy", False, "file is not a folder"),
            (tmp_path / "file/new/b", True, "file is not a folder"),
        ):
            with pytest.raises(OutputError, match=f"^cannot write {path}: .*{reason}$"):
                check_output(path, folder=folder, existing=existing)

    def test_a_file_where_the_folder_would_be(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(OutputError, match=r"is not a folder$"):
            check_output(tmp_path / "file", folder=True, existing="overwrite")

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
    def test_no_permission(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o500)
        with pytest.raises(OutputError, match=f"no permission to write in {tmp_path}$"):
            check_output(tmp_path / "new/a.npy", folder=False)


def test_refuse_existing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full/.hidden").touch()
    (tmp_path / "dangling").symlink_to(tmp_path / "gone")
    for name in ("empty", "absent", "absent/too"):
        refuse_existing(tmp_path / name, overwrite=False)
    for name in ("file", "full", "dangling"):
        refuse_existing(tmp_path / name, overwrite=True)
        with pytest.raises(OutputError, match=f"{name} exists: pass --overwrite"):
            refuse_existing(tmp_path / name, overwrite=False)
    assert (tmp_path / "file").exists()
