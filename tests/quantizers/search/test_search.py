"""Every search gives what float64 brute force gives."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tokenizer.errors import NonFiniteError
from tokenizer.quantizers import nearest_several
from tokenizer.quantizers.search import largest_product, nearest, tiles
from tokenizer.quantizers.search.scores import CodeGroups, ScoreFactors

Data = tuple[Tensor, Tensor]
Search = Callable[[Tensor, Tensor], Tensor]
SEARCHES = {"nearest": nearest, "several": lambda z, c: nearest_several(z, c, 1), "product": largest_product}
# One tile; one with a group that is not full; several; several with the last not full.
SIZES = [(513, 700), (40, 1000), pytest.param(300, 2048, marks=pytest.mark.slow)]
SIZES += [pytest.param(300, 5000, marks=pytest.mark.slow), (300, 2049)]


def distances(z: Tensor, codebook: Tensor) -> Tensor:
    """(N, K) float64, by differences: no cancellation."""
    rows = [(codebook.double() - row).norm(dim=1) for row in z.double()]
    return torch.stack(rows) if rows else torch.empty(0, len(codebook), dtype=torch.float64)


def losses(search: str, z: Tensor, codebook: Tensor) -> Tensor:
    return -(z.double() @ codebook.double().T) if search == "product" else distances(z, codebook)


def random(rows: int, codes: int, dim: int) -> Data:
    return torch.randn(rows, dim), torch.randn(codes, dim)


def clustered(rows: int, codes: int, dim: int) -> Data:
    centers = 10 * torch.randn(7, dim)
    near = [centers[torch.randint(7, (count,))] + 1e-3 * torch.randn(count, dim) for count in (rows, codes)]
    return near[0], near[1]


def duplicated(rows: int, codes: int, dim: int) -> Data:
    return torch.randn(rows, dim), torch.randn(9, dim)[torch.randint(9, (codes,))]


def far_off(rows: int, codes: int, dim: int) -> Data:
    return torch.randn(rows, dim) + 1e4, torch.randn(codes, dim) + 1e4


def one_far_code(rows: int, codes: int, dim: int) -> Data:
    z, codebook = random(rows, codes, dim)
    codebook[codes // 2] = 1e6
    return z, codebook


def far_latents(rows: int, codes: int, dim: int) -> Data:
    return 1e5 * torch.randn(rows, dim), torch.randn(codes, dim)


def whole_numbers(rows: int, codes: int, dim: int) -> Data:
    return torch.randint(-2, 3, (rows, dim)).float(), torch.randint(-2, 3, (codes, dim)).float()


def tiny(rows: int, codes: int, dim: int) -> Data:
    return 1e-18 * torch.randn(rows, dim), 1e-18 * torch.randn(codes, dim)


def huge(rows: int, codes: int, dim: int) -> Data:
    return 1e25 * torch.randn(rows, dim), 1e25 * torch.randn(codes, dim)


def collapsed(rows: int, codes: int, dim: int) -> Data:
    return torch.randn(rows, dim), torch.ones(codes, dim)


def none_at_all(rows: int, codes: int, dim: int) -> Data:
    return torch.zeros(rows, dim), torch.nn.functional.normalize(torch.randn(codes, dim), dim=1)


KINDS = [random, clustered, duplicated, far_off, one_far_code, far_latents, whole_numbers, tiny, huge, collapsed]


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("dim", [1, 3, 8, 64])
@pytest.mark.parametrize(("rows", "codes"), SIZES)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_the_index_is_that_of_float64(
    kind: Callable[[int, int, int], Data], rows: int, codes: int, dim: int, search: str
) -> None:
    torch.manual_seed(0)
    z, codebook = kind(rows, codes, dim)
    loss = losses(search, z, codebook)
    best = loss.amin(dim=1, keepdim=True)
    found = SEARCHES[search](z, codebook).reshape(-1)
    # Float64's own rounding, of the largest number that enters.
    size = (z.double().norm(dim=1) * codebook.double().norm(dim=1).max())[:, None] if search == "product" else best
    equal = loss <= best + 1e-12 * size + 1e-300
    assert equal.gather(1, found[:, None]).all()
    assert torch.equal(found, equal.to(torch.uint8).argmax(dim=1))


@pytest.mark.parametrize("search", SEARCHES)
def test_latents_at_equal_distance_to_all_codes(search: str) -> None:
    torch.manual_seed(0)
    z, codebook = none_at_all(20, 3000, 8)
    found = SEARCHES[search](z, codebook).reshape(-1)
    loss = losses(search, z, codebook)
    assert (loss.gather(1, found[:, None]) - loss.amin(dim=1, keepdim=True) < 1e-12).all()


@settings(deadline=None)  # a busy machine is no fault of the search
@given(
    rows=st.integers(0, 40),
    codes=st.integers(1, 2200),
    dim=st.integers(1, 20),
    seed=st.integers(0, 1000),
    digits=st.integers(0, 3),
)
def test_ties_go_to_the_lowest_index(rows: int, codes: int, dim: int, seed: int, digits: int) -> None:
    random = torch.Generator().manual_seed(seed)
    z, codebook = torch.randn(rows, dim, generator=random), torch.randn(codes, dim, generator=random)
    z, codebook = (z * 2**digits).round() / 2**digits, (codebook * 2**digits).round() / 2**digits
    squares = ((z[:, None] - codebook[None]) ** 2).sum(dim=2)  # exact: few bits
    assert torch.equal(nearest(z, codebook), squares.argmin(dim=1))
    assert torch.equal(nearest_several(z, codebook, 1)[:, 0], squares.argmin(dim=1))


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("codes", [300, 5000])
def test_the_split_of_a_batch_changes_nothing(search: str, codes: int) -> None:
    torch.manual_seed(0)
    z, codebook = clustered(1000, codes, 16)
    whole = SEARCHES[search](z, codebook)
    for size in (1, 7, 333):
        rows = z if size > 1 else z[:50]
        parts = torch.cat([SEARCHES[search](part, codebook) for part in rows.split(size)])
        assert torch.equal(parts, whole[: len(rows)])


@pytest.mark.parametrize("search", SEARCHES)
def test_the_size_of_tiles_changes_nothing(search: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    z, codebook = clustered(700, 3000, 5)
    whole = SEARCHES[search](z, codebook)
    monkeypatch.setattr(CodeGroups, "of", classmethod(lambda cls, codes: cls(-(-codes // 72), 2, 36)))
    monkeypatch.setitem(tiles._LATENTS, "cpu", 64)
    monkeypatch.setattr(tiles, "_SCORES", 3000)
    assert torch.equal(SEARCHES[search](z, codebook), whole)


@pytest.mark.parametrize("search", SEARCHES)
def test_a_product_in_bfloat16_is_not_trusted(search: str) -> None:
    torch.manual_seed(0)
    z, codebook = random(512, 2500, 64)
    whole = SEARCHES[search](z, codebook)
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(SEARCHES[search](z, codebook), whole)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("search", SEARCHES)
def test_any_type_of_numbers(dtype: torch.dtype, search: str) -> None:
    torch.manual_seed(0)
    z, codebook = random(200, 100, 8)
    found = SEARCHES[search](z.to(dtype), codebook.to(dtype)).reshape(-1)
    assert torch.equal(found, losses(search, z.to(dtype), codebook.to(dtype)).argmin(dim=1))


def test_float64_codes_that_float32_cannot_tell_apart() -> None:
    codebook = torch.tensor([[1.0 + 1e-12], [1.0], [3.0]], dtype=torch.float64)
    z = torch.tensor([[1.0], [1.1]], dtype=torch.float64)
    assert nearest(z, codebook).tolist() == [1, 0]
    assert nearest_several(z, codebook, 2).tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize("search", ["nearest", "several"])
def test_float64_data_far_off(search: str) -> None:
    torch.manual_seed(0)
    z, codebook = 1e9 + torch.randn(200, 3, dtype=torch.float64), 1e9 + torch.randn(3000, 3, dtype=torch.float64)
    assert torch.equal(SEARCHES[search](z, codebook).reshape(-1), distances(z, codebook).argmin(dim=1))


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("codes", [1, 2, 31, 33, 3000])
def test_no_latents_and_few_codes(search: str, codes: int) -> None:
    found = SEARCHES[search](torch.zeros(0, 4), torch.randn(codes, 4))
    assert found.shape[0] == 0
    assert found.dtype == torch.int64
    assert SEARCHES[search](torch.randn(5, 4), torch.ones(codes, 4)).flatten().tolist() == [0] * 5


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("codes", [50, 5000])
def test_what_is_not_finite_is_an_error_that_says_where(value: float, search: str, codes: int) -> None:
    torch.manual_seed(0)
    z, codebook = random(20, codes, 4)
    spoiled = z.clone()
    spoiled[[3, 7], 2] = value
    with pytest.raises(NonFiniteError, match="2 of 20 latents are not finite, first number 3"):
        SEARCHES[search](spoiled, codebook)
    codebook[40, 0] = value
    with pytest.raises(NonFiniteError, match=f"1 of {codes} code vectors are not finite, first number 40"):
        SEARCHES[search](z, codebook)


@pytest.mark.parametrize("dim", [1, 5, 64])
@pytest.mark.parametrize("count", [1, 7, 50, 100])
@pytest.mark.parametrize(("rows", "codes"), [(1, 100), (300, 100), (60, 3000), (20, 20000)])
@pytest.mark.parametrize(
    "kind", [random, clustered, duplicated, far_off, whole_numbers], ids=lambda kind: kind.__name__
)
def test_the_nearest_several_are_in_the_order_of_float64(
    kind: Callable[[int, int, int], Data], rows: int, codes: int, count: int, dim: int
) -> None:
    torch.manual_seed(0)
    z, codebook = kind(rows, codes, dim)
    loss = distances(z, codebook)
    found = nearest_several(z, codebook, count)
    assert found.shape == (rows, count)
    assert all(len(set(row)) == count for row in found.tolist())
    reached = loss.gather(1, found)
    torch.testing.assert_close(reached, loss.sort(dim=1).values[:, :count], rtol=1e-12, atol=1e-12)


def test_equal_codes_come_lowest_first_among_the_nearest_several() -> None:
    codebook = torch.tensor([[5.0, 5.0], [1.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [1.0, 0.0]]).repeat(200, 1)
    found = nearest_several(torch.tensor([[0.9, 0.1], [-0.7, 0.0]]), codebook, 5)
    assert found.tolist() == [[1, 2, 4, 6, 7], [3, 8, 13, 18, 23]]


def test_few_rows_are_left_to_float64() -> None:
    """What makes the search fast: on latents like any others, float32 settles nearly all of them."""
    torch.manual_seed(0)
    for codes, dim in ((1024, 64), (16384, 8), (16384, 64)):
        factors = ScoreFactors.of_distances(*random(1000, codes, dim))
        assert tiles.scan_tiles(factors).certain(factors).float().mean() > 0.99
        assert tiles.scan_several(factors, 10)[1].float().mean() > 0.99


@pytest.mark.parametrize("dim", [1, 8, 200])
def test_no_computed_score_is_further_off_than_the_bound(dim: int) -> None:
    torch.manual_seed(0)
    z, codebook = random(50, 400, dim)
    z, codebook = z * 10 ** torch.empty(50, 1).uniform_(-3, 3), codebook * 10 ** torch.empty(400, 1).uniform_(-3, 3)
    factors = ScoreFactors.of_distances(z, codebook)
    center = codebook.double().mean(dim=0)
    exact_z, exact_c = z.double() - center, codebook.double() - center
    exact = exact_z @ exact_c.T - exact_c.square().sum(dim=1) / 2
    # The float32 center is a vector of its own: it moves every score of a latent alike.
    shift = (factors.latents.double() @ factors.vectors[:400].double().T) - exact
    error = (shift - shift.median(dim=1, keepdim=True).values).abs()
    sizes = exact_z.norm(dim=1)[:, None] * exact_c.norm(dim=1) + exact_c.square().sum(dim=1) / 2
    assert error.max() >= 0
    assert (error <= 2 * factors.rounding(2.0**-24) * (sizes + sizes.median(dim=1, keepdim=True).values)).all()
