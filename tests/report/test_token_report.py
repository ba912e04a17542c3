"""The report: codebook use over several token sets."""

from __future__ import annotations

import json
import math
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from tokenizer.errors import InputError, TokenFileError
from tokenizer.images import placement_of
from tokenizer.metrics import DEFINITIONS
from tokenizer.report import Quality, Report, usage_report
from tokenizer.report.codebooks import codebook_report
from tokenizer.tokens import FailedInput, Header, ImageRecord, TokenSet, headerless_tokens, read_tokens


def placed(grid: np.ndarray, original: tuple[int, int], mode: str = "none", size: int | None = None) -> TokenSet:
    """One (h, w, C) grid of a tokenizer that divides by 8."""
    record = ImageRecord("a.png", (grid.shape[0], grid.shape[1]), placement_of(original, mode, size, 8))
    return TokenSet(Header(downsample=8), [record], [grid], [FailedInput("b.png", "empty")])


class TestUsage:
    def test_over_several_sets(self) -> None:
        first = headerless_tokens(np.array([[0, 0], [1, 2]]))
        second = headerless_tokens(np.array([[[1, 1, 1, 1]], [[1, 2, 0, 5]]], np.uint8))
        report = usage_report([first, second], (8,), top_k=2)
        share = np.array([3, 6, 2, 1]) / 12
        entropy = -(share * np.log2(share)).sum()
        assert (report.images, report.tokens, report.codes_per_position, report.failed) == (3, 12, 1, 0)
        assert (report.used, report.dead) == (0.5, 4)
        assert report.entropy_bits == pytest.approx(entropy, rel=1e-14)
        assert report.perplexity == pytest.approx(2**entropy, rel=1e-14)
        (slot,) = report.slots
        assert slot.codebook_size == 8
        assert slot.top == ((1, 6, 0.5), (0, 3, 0.25))

    def test_several_codes_per_position(self) -> None:
        grid = np.array([[[0, 3], [0, 1], [0, 2], [0, 0]]])
        report = usage_report([placed(grid, (8, 32))], (2, 4), top_k=1)
        assert (report.tokens, report.codes_per_position) == (8, 2)
        assert (report.used, report.dead) == (1 - 1 / 6, 1)
        assert [slot.entropy_bits for slot in report.slots] == [0, 2]
        assert [slot.perplexity for slot in report.slots] == [1, 4]
        assert [slot.dead for slot in report.slots] == [1, 0]
        assert (report.entropy_bits, report.perplexity) == (1, 2)
        assert report.bits_per_pixel == (4 * 1 + 4 * 2) / (8 * 32)

    def test_bits_per_pixel_leave_padding_out(self) -> None:
        grid = np.zeros((2, 3, 1), int)
        assert usage_report([placed(grid, (9, 17))], (16,), 0).bits_per_pixel == 6 * 4 / (9 * 17)
        assert usage_report([placed(np.zeros((4, 4, 1), int), (50, 100), "pad", 32)], (16,), 0).bits_per_pixel == (
            16 * 4 / (16 * 32)
        )
        sets = [placed(grid, (9, 17)), placed(grid, (16, 24))]
        assert usage_report(sets, (5,), 0).bits_per_pixel == pytest.approx(12 * math.log2(5) / (9 * 17 + 16 * 24))

    def test_bare_arrays_have_no_rate(self) -> None:
        array = np.zeros((2, 3), int)
        assert usage_report([headerless_tokens(array)], (16,), 0).bits_per_pixel is None
        assert (
            usage_report([placed(array[..., None], (16, 24)), headerless_tokens(array)], (16,), 0).bits_per_pixel
            is None
        )

    def test_failures_are_counted(self) -> None:
        grid = np.zeros((1, 1, 1), int)
        assert usage_report([placed(grid, (8, 8))] * 3, (2,), 0).failed == 3

    def test_no_tokens(self) -> None:
        report = usage_report([], (4, 4), 1)
        assert (report.images, report.tokens, report.used, report.dead, report.entropy_bits) == (0, 0, 0, 8, 0)
        assert (report.perplexity, report.bits_per_pixel) == (1, None)

    def test_tokens_outside_the_alphabet(self) -> None:
        with pytest.raises(TokenFileError, match=r"token 4 at row 0 \(0, 1\) is outside 0\.\.3"):
            usage_report([headerless_tokens(np.array([[0, 4]]))], (4,), 0)
        with pytest.raises(TokenFileError, match="1 codes per position, the model 2"):
            usage_report([headerless_tokens(np.array([[0, 4]]))], (4, 4), 0)

    def test_the_file_is_named(self) -> None:
        sets = [headerless_tokens(np.array([[0, 3]])), headerless_tokens(np.array([[0, 4]]))]
        with pytest.raises(TokenFileError, match=r"^b\.npy: token 4 at row 0 \(0, 1\) is outside 0\.\.3$"):
            usage_report(sets, (4,), 0, names=["a.npy", "b.npy"])

    @pytest.mark.slow
    def test_memory_does_not_grow_with_the_tokens(self, tmp_path: Path) -> None:
        """Of files that are mapped: they are counted in blocks."""
        peaks = []
        for rows in (6, 20):
            path = tmp_path / f"{rows}.npy"
            array = np.lib.format.open_memmap(path, "w+", np.uint16, (rows, 1000, 1000))
            array[-1, :, 500:] = 3
            del array
            tracemalloc.start()
            report = usage_report([read_tokens(path)], (4,), 1)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
            assert report.tokens == rows * 10**6
            assert report.slots[0].top == ((0, rows * 10**6 - 500_000, 1 - 0.5 / rows),)
        assert peaks[1] < 1.05 * peaks[0]

    def test_alphabets_that_do_not_fit_into_memory(self) -> None:
        with pytest.raises(InputError, match="there are 1099511627776 codes to count, at most 134217728 fit"):
            usage_report([headerless_tokens(np.array([[0]]))], (2**40,), 0)

    def test_as_plain_values(self) -> None:
        report = usage_report([placed(np.array([[[1]]]), (8, 8))], (2,), 1)
        values = json.loads(json.dumps(report.to_json(), allow_nan=False))
        assert values["version"] == 3
        assert values["perplexity"] == 1
        assert values["slots"][0]["top"] == [[1, 1, 1.0]]
        assert values["slots"][0]["ranked"] == [[1, 1.0]]
        assert values["rate"] == {"stored": 1 / 64, "entropy": 0, "context": None}
        assert [values[key] for key in ("joint", "positions", "context", "quality", "stability")] == [None] * 5
        assert values["codebooks"] == []
        assert "psnr" not in values

    def test_defines_the_figures_that_are_there(self) -> None:
        plain = usage_report([headerless_tokens(np.zeros((2, 3, 4), int))], (4,), 1).to_json()
        assert {"used", "zipf_exponent", "curve", "context_bits"} <= set(plain["definitions"])
        assert not {"psnr", "nearest", "stability_changed"} & set(plain["definitions"])
        assert all(plain["definitions"][key] == DEFINITIONS[key] for key in plain["definitions"])
        quality = Quality(psnr=30.0, ssim=None, exact=0, images=(), missing=())
        shown = usage_report([], (4,), 1, quality, codebooks=[codebook_report(torch.eye(4))]).to_json()
        assert [shown[key] for key in ("psnr", "ssim", "ms_ssim", "lpips", "rfid")] == [30, None, None, None, None]
        assert [shown[key] for key in ("lite0_distance", "lite0_frechet", "recognized_alike")] == [None] * 3
        assert {"psnr", "ssim", "nearest", "effective_rank"} <= set(shown["definitions"])
        json.dumps(shown, allow_nan=False)


@pytest.fixture(scope="module")
def report() -> Report:
    random = np.random.default_rng(0)
    grids = [random.integers(0, (4, 8), (2, 3, 2)) for _ in range(120)]
    records = [ImageRecord(str(number), (2, 3), placement_of((16, 24), "none", None, 8)) for number in range(120)]
    return usage_report([TokenSet(Header(downsample=8), records, grids)], (4, 8), 2)


class TestWhole:
    """All figures of one report, on tokens that were made up."""

    def test_rates(self, report: Report) -> None:
        assert report.rate
        assert report.context
        per_pixel = 6 / (16 * 24)
        assert report.rate.stored == report.bits_per_pixel == pytest.approx(per_pixel * 5)
        entropies = sum(slot.entropy_bits for slot in report.slots)
        assert report.rate.entropy == pytest.approx(per_pixel * entropies)
        assert report.rate.context == pytest.approx(per_pixel * 2 * report.context.context_bits)
        # Even frequencies leave nothing to gain.
        assert report.rate.entropy < report.rate.stored < report.rate.context < 1.05 * report.rate.stored
        assert (report.context.images, report.context.tokens) == (120, 1440)

    def test_joint(self, report: Report) -> None:
        assert report.joint
        assert report.joint.possible == report.joint.distinct == 32
        assert sum(slot.entropy_bits for slot in report.slots) > report.joint.entropy_bits > 4.9

    def test_positions(self, report: Report) -> None:
        assert report.positions
        assert report.positions.images == 120
        assert np.shape(report.positions.entropy_bits) == (2, 3)
        assert np.mean(report.positions.entropy_bits) == pytest.approx(2.5, abs=0.1)

    def test_curve(self, report: Report) -> None:
        assert [point.tokens for point in report.curve] == [512, 1024, 1440]
        assert (report.curve[-1].used, report.curve[-1].perplexity) == (report.used, report.perplexity)

    def test_as_plain_values(self, report: Report) -> None:
        values = json.loads(json.dumps(report.to_json(), allow_nan=False))
        assert values["joint"]["possible"] == 32
        assert values["joint"]["reason"] is None
        assert len(values["positions"]["entropy_bits"]) == 2
        assert values["curve"][-1] == {"tokens": 1440, "used": 1.0, "perplexity": pytest.approx(report.perplexity)}


def test_each_file_is_opened_once() -> None:
    opened = []

    class Files(list[TokenSet]):
        def __iter__(self) -> Iterator[TokenSet]:
            for number, tokens in enumerate(list.__iter__(self)):
                opened.append(number)
                yield tokens

    assert usage_report(Files([headerless_tokens(np.array([[0, 1]]))] * 3), (2,), 1).tokens == 6
    assert opened == [0, 1, 2]
