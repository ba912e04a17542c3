"""Distances and directions of the codes, against scipy and numpy."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.spatial
import scipy.stats
import torch

from tests.conftest import TINY
from tokenizer.errors import NonFiniteError
from tokenizer.models import Tokenizer
from tokenizer.quantizers import read_spec
from tokenizer.report import CodeDistances, codebook_reports
from tokenizer.report.codebooks import codebook_report


def made(text: str) -> Tokenizer:
    torch.manual_seed(0)
    return Tokenizer(TINY, read_spec(text)).eval()


def check_distances(found: CodeDistances | None, codes: np.ndarray, unit: float = 1.0) -> None:
    distances = scipy.spatial.distance.squareform(scipy.spatial.distance.pdist(codes.astype(np.float64)))
    np.fill_diagonal(distances, np.inf)
    nearest = distances.min(axis=1) / unit
    assert found
    assert (found.min, found.median, found.max) == pytest.approx((nearest.min(), np.median(nearest), nearest.max()))


@pytest.mark.parametrize(("codes", "width"), [(2, 1), (50, 3), (700, 8)])
def test_against_scipy(codes: int, width: int) -> None:
    table = np.random.default_rng(codes).normal(2, 1, (codes, width)).astype(np.float32)
    found = codebook_report(torch.from_numpy(table))
    rms = np.sqrt(np.square(table, dtype=np.float64).sum() / codes)
    assert (found.codes, found.width) == (codes, width)
    assert found.rms_norm == pytest.approx(rms)
    check_distances(found.nearest, table)
    check_distances(found.nearest_relative, table, rms)
    values = np.linalg.svd(table - table.mean(axis=0, dtype=np.float64), compute_uv=False)
    assert found.effective_rank == pytest.approx(np.exp(scipy.stats.entropy(values)), rel=1e-6)


def test_equal_codes_are_each_others_neighbors() -> None:
    table = torch.tensor([[0.0, 1], [3, 1], [0, 1], [0, 1], [3, 5]])
    assert codebook_report(table).nearest == CodeDistances(0.0, 0.0, 4.0)


def test_one_code_has_no_neighbor() -> None:
    found = codebook_report(torch.tensor([[3.0, 4.0]]))
    assert (found.rms_norm, found.nearest, found.nearest_relative, found.effective_rank) == (5, None, None, 0)


def test_codes_without_length_have_no_relative_distance() -> None:
    found = codebook_report(torch.zeros(4, 2))
    assert (found.nearest, found.nearest_relative) == (CodeDistances(0.0, 0.0, 0.0), None)


def test_codes_that_are_not_finite() -> None:
    with pytest.raises(NonFiniteError, match="1 of 3 "):
        codebook_report(torch.tensor([[0.0], [1.0], [torch.nan]]))


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("ste(codebook_size=20)", [20]),
        ("residual(diveq(codebook_size=16), ema(codebook_size=8))", [16, 8]),
        ("product(2*diveq, codebook_size=16)", [16, 16]),
        ("multiscale(diveq, scales=1 2, codebook_size=12)", [12]),
        ("sf-diveq(codebook_size=9, points=2)", [16]),
        ("residual(diveq(codebook_size=16), fsq)", [16]),
        ("fsq", []),
        ("lfq(codebook_size=16)", []),
        ("bsq(codebook_size=16)", []),
    ],
)
def test_each_table_has_a_report(text: str, codes: list[int]) -> None:
    assert [book.codes for book in codebook_reports(made(text))] == codes


def test_codes_are_what_the_decoder_sees() -> None:
    (found,) = codebook_reports(made("ste(codebook_size=20, normalize=sphere)"))
    assert found.rms_norm == pytest.approx(1)
    model = made("ste(codebook_size=20, transform=mlp)")
    table = model.quantizer.decode(torch.arange(20)[:, None]).detach().numpy()
    check_distances(codebook_reports(model)[0].nearest, table)
