"""Codes that are a function: where they are placed, what moves with what, and the plain table they merge into."""

from __future__ import annotations

import pytest
import torch

from tokenizer.quantizers import CodebookQuantizer, PlainTable, build_quantizer
from tokenizer.quantizers.tables import BridgeTable, CodeTable, LinearTable, MLPTable, Transform, build_table

ALONE: list[Transform] = ["none", "linear", "linear-frozen", "mlp"]


def table(transform: Transform, size: int, dim: int) -> CodeTable:
    """A float64 table whose parameters have all moved from where they start."""
    torch.manual_seed(0)
    made = build_table(transform, size, dim).double()
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if "second" not in name:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return made


@pytest.mark.parametrize("transform", ["none", "linear", "linear-frozen"])
def test_placed_codes_come_out_where_asked(transform: Transform) -> None:
    made, wanted = table(transform, 9, 4), 10 + 3 * torch.randn(9, 4, dtype=torch.float64)
    made.place(wanted)
    torch.testing.assert_close(made(), wanted)


def test_an_mlp_places_codes_on_the_plane_of_their_largest_variance() -> None:
    # Codes of width 4 on a plane of 2 dimensions, plus a little off it: each lands on its nearest point of the plane.
    made = table("mlp", 50, 4)
    basis = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64)).Q
    spread = torch.randn(50, 4, dtype=torch.float64) * torch.tensor([9.0, 5.0, 0.1, 0.1], dtype=torch.float64)
    wanted = 7 + spread @ basis
    made.place(wanted)
    centered = wanted - wanted.mean(dim=0)
    directions = torch.linalg.eigh(centered.T @ centered).eigenvectors[:, -2:]
    torch.testing.assert_close(made(), wanted.mean(dim=0) + centered @ directions @ directions.T)
    assert (made() - wanted).norm(dim=1).max() < 1


def test_an_mlp_places_codes_of_that_plane_exactly() -> None:
    made = table("mlp", 9, 4)
    wanted = 3 + torch.randn(9, 2, dtype=torch.float64) @ torch.randn(2, 4, dtype=torch.float64)
    made.place(wanted)
    torch.testing.assert_close(made(), wanted)


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_an_mlp_takes_few_codes_and_narrow_latents(dim: int) -> None:
    made = table("mlp", 1, dim)
    wanted = torch.full((1, dim), 5.0, dtype=torch.float64)
    made.place(wanted)
    torch.testing.assert_close(made(), wanted)


@pytest.mark.parametrize("transform", ALONE)
def test_replace_moves_the_rows_it_names_and_no_other(transform: Transform) -> None:
    made, rows = table(transform, 6, 4), torch.tensor([False, True, False, False, True, False])
    before = made().detach().clone()
    wanted = torch.randn(6, 4, dtype=torch.float64)
    if isinstance(made, MLPTable):  # what it can reach: a point of its plane
        wanted = made.mean.detach() + torch.randn(6, 2, dtype=torch.float64) @ made.plane.detach()
    change = made.replace(wanted, rows)
    assert torch.equal(change.rows, rows)
    assert any(change.parameter is parameter for parameter in made.parameters())
    assert len(change.parameter) == 6
    assert torch.equal(made()[~rows], before[~rows])
    torch.testing.assert_close(made()[rows], wanted[rows])


def test_the_linear_table_is_the_product_and_starts_as_its_basis() -> None:
    made = LinearTable(2, 2, frozen=False)
    assert torch.equal(made(), made.basis)
    with torch.no_grad():
        made.basis.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
        made.map.copy_(torch.tensor([[0.0, 10.0], [1.0, 0.0]]))
    assert made().tolist() == [[2, 10], [4, 30]]


def test_the_mlp_is_a_plane_with_a_bend() -> None:
    made = table("mlp", 3, 4)
    with torch.no_grad():
        made.second.weight.normal_()
        made.second.bias.normal_()
    hidden = (made.basis @ made.first.weight.T + made.first.bias).clamp_min(0)
    wanted = made.mean + made.basis @ made.plane + hidden @ made.second.weight.T + made.second.bias
    torch.testing.assert_close(made(), wanted)


@pytest.mark.parametrize(
    ("transform", "moved"), [("none", 1), ("linear", 64), ("linear-frozen", 64), ("mlp", 64), ("bridge", 4)]
)
def test_a_step_on_one_latent_moves_one_code_or_others_with_it(transform: Transform, moved: int) -> None:
    """SimVQ's point: codes that no latent chooses move with those that one does; of the bridge one in each patch."""
    torch.manual_seed(0)
    made = build_quantizer({"name": "ste", "codebook_size": 64, "transform": transform}, 4).train()
    assert isinstance(made, CodebookQuantizer)
    optimizer = torch.optim.SGD([p for p in made.parameters() if p.requires_grad], lr=0.1)
    before = made.code_vectors().detach().clone()
    made(torch.randn(1, 4)).loss.backward()
    optimizer.step()
    assert int((made.code_vectors() != before).any(dim=1).sum()) == moved


def test_the_bridge_places_codes_and_moves_others_less() -> None:
    torch.manual_seed(0)
    made = BridgeTable(64, 4)
    wanted = torch.randn(64, 4)
    made.place(wanted)
    assert torch.equal(made(), wanted), "before it has learned, the network answers 0"
    with torch.no_grad():
        made.recover.weight.normal_(std=0.02)
    made.place(wanted)
    torch.testing.assert_close(made(), wanted, atol=0.02, rtol=0)
    rows = torch.arange(64) % 7 == 3
    moved = wanted + 1.0
    change = made.replace(moved, rows)
    assert torch.equal(change.rows, rows)
    assert change.parameter is made.basis
    torch.testing.assert_close(made()[rows], moved[rows], atol=0.05, rtol=0)
    assert (made()[~rows] - wanted[~rows]).abs().max() < 0.3


def test_the_bridge_by_hand() -> None:
    """Compress, attend, recover, from an explicit softmax of one head after the other."""
    torch.manual_seed(1)
    made = BridgeTable(6, 3)  # 6 and 16 share the divisor 2: three patches of two codes
    with torch.no_grad():
        made.recover.weight.normal_()
    x = made.compress(made.basis.reshape(3, 6)) + made.positions
    for block in list(made.process)[:-1]:
        query, key, value = block.queries_keys_values(block.norm(x)).split(64, dim=1)
        mixed = []
        for head in range(4):
            part = slice(16 * head, 16 * head + 16)
            weights = torch.softmax(query[:, part] @ key[:, part].T / 16**0.5, dim=1)
            mixed.append(weights @ value[:, part])
        x = x + block.out(torch.cat(mixed, dim=1))
        x = x + block.mlp(x)
    wanted = made.basis + made.recover(made.process[-1](x)).reshape(6, 3)
    torch.testing.assert_close(made(), wanted)


@pytest.mark.parametrize("size", [1, 7, 16, 40])
def test_the_bridge_takes_any_number_of_codes(size: int) -> None:
    assert BridgeTable(size, 3)().shape == (size, 3)


def test_a_frozen_basis_stays_and_the_map_learns() -> None:
    frozen, free = LinearTable(5, 3, frozen=True), LinearTable(5, 3, frozen=False)
    assert [name for name, p in frozen.named_parameters() if p.requires_grad] == ["map"]
    assert [name for name, p in free.named_parameters() if p.requires_grad] == ["basis", "map"]


@pytest.mark.parametrize("transform", ["linear", "linear-frozen", "mlp", "bridge"])
def test_merging_leaves_a_plain_table_that_learns(transform: Transform) -> None:
    made = build_quantizer({"name": "diveq", "codebook_size": 8, "transform": transform}, 4)
    codes = made.code_vectors().detach().clone()
    made.merge_()
    assert isinstance(made.table, PlainTable)
    assert made.table.weight.requires_grad
    assert torch.equal(made.code_vectors(), codes)
    assert made.spec["transform"] == "none"
