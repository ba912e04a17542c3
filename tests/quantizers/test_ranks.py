"""Two processes that train together: whatever latents each sees, both hold the same codebook, to the last bit."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from tokenizer import quantizers
from tokenizer.quantizers import Quantizer

pytestmark = pytest.mark.slow

RANKS, STEPS, ROWS, DIM = 2, 12, 60, 3

# Specs, and whether training starts with k-means on the first latents. The codes of `build` are far too many for
# 60 latents a step, so that some die every few steps where they are replaced.
CASES: dict[str, tuple[str, bool]] = {
    "ema": ("ema(dead_code_patience=0, decay=0.9)", False),
    "ema, replaced": ("ema(dead_code_patience=3, decay=0.9)", True),
    "diveq, replaced": ("diveq(dead_code_patience=3)", False),
    "diveq, the second rank without latents": ("diveq(dead_code_patience=2)", False),
    "ste, k-means": ("ste(dead_code_patience=4)", True),
    "curve, k-means": ("sf-diveq", True),
    "fsq, placed": ("fsq(codebook_size=64)", True),
    "nested, replaced": ("residual(ste, product(3*ema), dead_code_patience=2)", True),
}


def latents(step: int, rank: int) -> torch.Tensor:
    return (rank + 1) * torch.randn(ROWS, DIM, generator=torch.Generator().manual_seed(1000 * step + rank))


def step_of(made: Quantizer, z: torch.Tensor, *, world: int) -> None:
    """One step of gradient descent with the gradients' mean over ranks, as a trainer makes it."""
    made.zero_grad()
    result = made(z)
    loss = (result.vectors - z).square().sum() / ROWS + result.loss
    if loss.requires_grad:
        loss.backward()
    for parameter in made.parameters():
        if parameter.grad is not None:
            if world > 1:
                dist.all_reduce(parameter.grad)
            parameter.data.sub_(parameter.grad, alpha=0.03 / world)


def start(name: str) -> Quantizer:
    torch.manual_seed(0)
    spec = quantizers.read_spec(CASES[name][0])
    return quantizers.build_quantizer({"codebook_size": 200, **spec}, DIM).train()


def work(rank: int, folder: str) -> None:
    """Train each case on one rank and save what it holds."""
    torch.set_num_threads(1)
    patience = dt.timedelta(seconds=60)
    dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=RANKS, timeout=patience)
    held: dict[str, Any] = {}
    for name, (_, placed) in CASES.items():
        made = start(name)
        torch.manual_seed(100 + rank)  # ranks draw noise and new places of their own
        if placed:
            made.initialize(latents(-1, rank))
        moved = 0
        for step in range(STEPS):
            z = latents(step, rank)
            step_of(made, z[:0] if rank and "without" in name else z, world=RANKS)
            moved += sum(int(change.rows.sum()) for change in made.replace_dead_codes())
        state = dict([*made.named_parameters(), *made.named_buffers()])
        held[name] = {"state": {key: value.detach() for key, value in state.items()}, "moved": moved}
    torch.save(held, f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each rank holds of each case."""
    folder: Path = tmp_path_factory.mktemp("ranks")
    mp.spawn(work, args=(str(folder),), nprocs=RANKS)
    return [torch.load(folder / f"{rank}.pt") for rank in range(RANKS)]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", CASES)
def test_ranks_hold_the_same_to_the_last_bit(held: list[dict[str, Any]], name: str) -> None:
    first, second = (rank[name] for rank in held)
    assert first["state"].keys() == second["state"].keys()
    for key, value in first["state"].items():
        assert torch.isfinite(value).all()
        assert torch.equal(value, second["state"][key]), key
    assert first["moved"] == second["moved"]
    assert (first["moved"] > 0) == ("dead_code_patience" in CASES[name][0] and "patience=0" not in CASES[name][0])
    before = dict(start(name).named_parameters())
    assert any(not torch.equal(first["state"][key], value) for key, value in before.items())


def test_counts_are_those_of_all_ranks(held: list[dict[str, Any]]) -> None:
    # A step adds a tenth of its latents and keeps nine tenths of what it had: 120 (1 - 0.9^12) of two ranks.
    state = held[0]["ema"]["state"]
    assert float(state["averages.counts"].sum()) == pytest.approx(RANKS * ROWS * (1 - 0.9**STEPS), rel=1e-5)


def test_moving_averages_on_two_ranks_are_those_of_one_process_with_both_batches(held: list[dict[str, Any]]) -> None:
    made = start("ema")
    for step in range(STEPS):
        step_of(made, torch.cat([latents(step, rank) for rank in range(RANKS)]), world=1)
    for key, value in [*made.named_parameters(), *made.named_buffers()]:
        torch.testing.assert_close(held[0]["ema"]["state"][key], value.detach())
