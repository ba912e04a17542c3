"""A checkpoint on its device, the maker of tokens, and whether tokens fit."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from tokenizer.errors import CheckpointError, DeviceError, TokenFileError, UsageError
from tokenizer.models import (
    DEFAULT_CHECKPOINT,
    LoadedModel,
    find_maker,
    fingerprint_of,
    is_maker,
    load_model,
    shipped,
    shipped_folder,
)
from tokenizer.tokens import Header, ImageRecord, TokenSet, headerless_tokens


@pytest.fixture(scope="module")
def model(run: Path) -> LoadedModel:
    return load_model(run, "cpu")


def tokens_of(made_by: str, codes: int = 1) -> TokenSet:
    header = Header(made_by, (32,) * codes, 8)
    return TokenSet(header, [ImageRecord("x", (3, 4))], [np.full((3, 4, codes), 31)])


class TestLoad:
    def test_a_folder(self, run: Path, model: LoadedModel) -> None:
        assert (model.folder, model.fingerprint, model.reads) == (run, fingerprint_of(run), ())
        assert (model.device.type, model.network.codebook_sizes) == ("cpu", (32,))
        assert not model.network.training
        assert load_model(str(run), "cpu").fingerprint == model.fingerprint

    def test_a_loaded_model_stays_as_it_is(self, model: LoadedModel) -> None:
        assert load_model(model, "cuda:77") is model

    def test_the_default_is_the_one_that_ships(self) -> None:
        assert load_model(device="cpu").folder == shipped_folder() / DEFAULT_CHECKPOINT
        assert load_model("photo-f16", "cpu").folder == shipped_folder() / "photo-f16"

    def test_none_ships(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(shipped, "_PACKAGE", tmp_path / "package")
        with pytest.raises(UsageError, match="no checkpoint: pass -m RUN, the folder that vqtok train wrote"):
            load_model()

    def test_what_is_none(self, run: Path, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match="there is no checkpoint"):
            load_model(tmp_path / "gone", "cpu")
        with pytest.raises(UsageError, match="gpu"):
            load_model(run, "gpu")
        with pytest.raises(DeviceError, match="cuda:77"):
            load_model(run, "cuda:77")


class TestMaker:
    @pytest.mark.parametrize("name", ["photo-f8", "photo-f16"])
    def test_of_a_shipped_checkpoint(self, name: str) -> None:
        folder = shipped_folder() / name
        assert find_maker(fingerprint_of(folder), "t.npy") == folder
        assert is_maker(folder, fingerprint_of(folder))

    @pytest.mark.parametrize("fingerprint", [None, ""])
    def test_where_nothing_says_it(self, fingerprint: str | None) -> None:
        assert find_maker(fingerprint, "t.npy") == shipped_folder() / DEFAULT_CHECKPOINT

    def test_of_another(self, run: Path) -> None:
        print_ = fingerprint_of(run)
        assert is_maker(run, print_)
        with pytest.raises(UsageError, match=rf"t\.npy was made by checkpoint {print_[:12]}, which does not ship"):
            find_maker(print_, "t.npy")


class TestFit:
    def test_another_checkpoint_is_an_error_unless_allowed(self, model: LoadedModel) -> None:
        tokens = tokens_of("print")
        dataclasses.replace(model, fingerprint="print").check("t.npy", tokens)
        dataclasses.replace(model, fingerprint="finetuned", reads=("print",)).check("t.npy", tokens)
        other = dataclasses.replace(model, fingerprint="other")
        with pytest.raises(TokenFileError, match=r"^t\.npy: it was made by the checkpoint print, this one is other"):
            other.check("t.npy", tokens)
        other.check("t.npy", tokens, allow_mismatch=True)

    def test_a_generator_s_array_is_checked_against_the_model(self, model: LoadedModel) -> None:
        model.check("t.npy", headerless_tokens(np.full((2, 3, 4), 31)))
        array = np.zeros((2, 3, 4), np.int32)
        array[1, 2, 0] = 32
        with pytest.raises(TokenFileError, match=r"^t\.npy: token 32 at row 1 \(2, 0\) is outside 0..31"):
            model.check("t.npy", headerless_tokens(array))
        with pytest.raises(TokenFileError, match="2 codes per position, the model 1"):
            model.check("t.npy", headerless_tokens(np.zeros((1, 3, 4, 2), np.int32)))
