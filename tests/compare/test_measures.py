"""Each figure against a computation of its own."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import TINY, draw
from tokenizer.compare import measures
from tokenizer.compare.measures import PictureScores, loss_steadiness, measure_model, thin_curve
from tokenizer.metrics import effective_rank, psnr, ssim
from tokenizer.models import Tokenizer, to_pixels, to_unit_range


@pytest.fixture
def batches() -> list[torch.Tensor]:
    """Two batches of pictures of different sizes."""
    return [torch.from_numpy(np.stack([draw(size, size, seed) for seed in range(3)])) for size in (32, 48)]


def whole(batches: list[torch.Tensor]) -> list[torch.Tensor]:
    """Return (B, H, W, 3) pictures as images of one tile."""
    return [batch[:, None] for batch in batches]


def tokenizer(name: str, **options: object) -> Tokenizer:
    """A tokenizer whose codes lie on the latents of some pictures."""
    torch.manual_seed(3)
    model = Tokenizer(TINY, {"name": name, "codebook_size": 16, **options}).eval()
    pictures = torch.from_numpy(np.stack([draw(48, 48, seed) for seed in range(4)]))
    with torch.no_grad():
        model.quantizer.initialize(model.latents(to_unit_range(pictures)).flatten(0, -2))
    return model


@pytest.mark.parametrize("name", ["diveq", "residual(2*ste)"])
def test_measured_from_tokens_alone(name: str, batches: list[torch.Tensor]) -> None:
    model = tokenizer(name)
    found = measure_model(model, whole(batches))
    decibels, similarities, tokens = [], [], []
    for batch in batches:
        for picture in batch:
            codes = model.encode(to_unit_range(picture[None]))
            back = to_pixels(model.decode(codes))[0].numpy()
            decibels.append(psnr(picture.numpy(), back))
            similarities.append(ssim(picture.numpy(), back))
            tokens.append(codes.reshape(-1, codes.shape[-1]))
    assert found.psnr == pytest.approx(np.mean(decibels))
    assert found.ssim == pytest.approx(np.mean(similarities))
    every = torch.cat(tokens)
    slots = [every[:, slot].tolist() for slot in range(every.shape[1])]
    assert found.tokens == every.numel() == 3 * (16 + 36) * len(slots)
    assert found.used == pytest.approx(sum(len(set(slot)) for slot in slots) / (16 * len(slots)))
    entropies = []
    for slot in slots:
        shares = [slot.count(code) / len(slot) for code in set(slot)]
        entropies.append(-sum(share * math.log(share) for share in shares))
    assert found.perplexity == pytest.approx(math.exp(sum(entropies) / len(slots)))
    vectors = model.quantizer.decode(every).detach().double().numpy()
    distinct = np.unique(vectors, axis=0)
    values = np.linalg.svd(distinct - distinct.mean(axis=0), compute_uv=False)
    shares = values / values.sum()
    assert found.effective_rank == pytest.approx(math.exp(-(shares * np.log(shares)).sum()))
    assert 1.5 < found.effective_rank <= 4
    assert found.soft is None


def test_soft_pictures_are_measured_beside_the_hard_ones(batches: list[torch.Tensor]) -> None:
    model = tokenizer("gumbel", temperature=1.0, lowest_temperature=0.9)
    found = measure_model(model, whole(batches))
    assert found.soft is not None
    decibels = []
    for batch in batches:
        with torch.no_grad():
            vectors = model.quantizer.soft(model.latents(to_unit_range(batch)))
            back = to_pixels(model.pictures(vectors).clamp(-1, 1)).numpy()
        decibels += [psnr(one, two) for one, two in zip(batch.numpy(), back, strict=True)]
    assert found.soft.psnr == pytest.approx(np.mean(decibels))
    assert found.soft.psnr != pytest.approx(found.psnr)


def test_almost_cold_soft_assignment_is_the_hard_one(batches: list[torch.Tensor]) -> None:
    model = tokenizer("gumbel", temperature=2e-6, lowest_temperature=1e-6)
    found = measure_model(model, whole(batches))
    assert found.soft is not None
    assert found.soft.psnr == pytest.approx(found.psnr, abs=1e-3)


@pytest.mark.parametrize("rank", [1, 2, 5])
def test_effective_rank_of_equal_axes_is_their_number(rank: int) -> None:
    axes = torch.eye(7)[:rank]
    assert effective_rank(torch.cat([axes, -axes]) + 3) == pytest.approx(rank)


def test_effective_rank_of_unequal_axes_lies_between() -> None:
    axes = torch.diag(torch.tensor([1.0, 3.0]))
    shares = np.array([0.25, 0.75])
    wanted = math.exp(-(shares * np.log(shares)).sum())
    assert effective_rank(torch.cat([axes, -axes])) == pytest.approx(wanted)


def test_effective_rank_counts_each_vector_once() -> None:
    once = torch.randn(20, 4, generator=torch.Generator().manual_seed(1))
    assert effective_rank(once[torch.arange(60) % 20]) == pytest.approx(effective_rank(once))


@pytest.mark.parametrize("vectors", [torch.zeros(0, 3), torch.ones(1, 3), torch.ones(9, 3)])
def test_a_single_vector_has_no_rank(vectors: torch.Tensor) -> None:
    assert effective_rank(vectors) == 0


def test_many_distinct_vectors_are_sampled_alike_each_time(
    batches: list[torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tokenizer("residual(2*ste)")
    every = measure_model(model, whole(batches)).effective_rank
    monkeypatch.setattr(measures, "MOST_VECTORS", 5)
    torch.manual_seed(8)
    first = measure_model(model, whole(batches)).effective_rank
    torch.manual_seed(9)
    assert measure_model(model, whole(batches)).effective_rank == first != every


def test_steadiness_is_that_of_the_last_tenth() -> None:
    losses = [9.0] * 18 + [1.0, 3.0]
    assert loss_steadiness(losses) == pytest.approx(0.5)
    assert loss_steadiness([9.0, 1.0, 3.0]) == pytest.approx(0.5)
    assert loss_steadiness([2.0] * 50) == 0
    assert loss_steadiness([1.0]) is None
    assert loss_steadiness([]) is None


def test_thinning_takes_means_of_equal_stretches() -> None:
    assert thin_curve([(1, 2.0), (2, 4.0)]) == ((1.0, 2.0), (2.0, 4.0))
    points = thin_curve([(step, float(step)) for step in range(1, 1001)])
    assert len(points) == 200
    assert points[0] == (5.0, 3.0)
    assert points[-1] == (1000.0, 998.0)
    assert len(thin_curve([(step, 0.0) for step in range(201)])) <= 200
    assert thin_curve([]) == ()


def test_an_image_of_several_tiles_is_one() -> None:
    originals, made = (np.stack([draw(16, 16, seed + each) for each in range(4)]) for seed in (0, 10))
    scores = PictureScores()
    scores.add(originals, made, tiles=2)
    images = [psnr(np.concatenate(originals[at]), np.concatenate(made[at])) for at in (slice(2), slice(2, 4))]
    assert scores.psnr == pytest.approx(np.mean(images))
    assert scores.ssim == pytest.approx(np.mean([ssim(*pair) for pair in zip(originals, made, strict=True)]))
    model = tokenizer("diveq")
    tiles = torch.from_numpy(originals)
    together, apart = (measure_model(model, [tiles.reshape(shape)]) for shape in ((2, 2, 16, 16, 3), (4, 1, 16, 16, 3)))
    assert (together.used, together.perplexity, together.tokens) == (apart.used, apart.perplexity, apart.tokens)
    assert together.psnr != apart.psnr


def test_pictures_that_came_back_exactly_are_left_out() -> None:
    one, two = draw(16, 16, 1), draw(16, 16, 2)
    scores = PictureScores()
    assert (scores.psnr, scores.ssim) == (None, None)
    scores.add(np.stack([one]), np.stack([one]))
    assert (scores.psnr, scores.ssim) == (None, 1.0)
    scores.add(np.stack([one]), np.stack([two]))
    assert scores.psnr == pytest.approx(psnr(one, two))


def test_every_figure_is_defined() -> None:
    names = set(measures.EntryFigures.__dataclass_fields__) | {"steps_to_common"}
    assert set(measures.COMPARISON_DEFINITIONS) == names


def test_curves_of_a_run_are_those_of_its_log(finished: tuple, tmp_path: Path) -> None:
    comparison, results = finished
    lines = (comparison.entries[0].folder / "metrics.jsonl").read_text().splitlines()
    assert len([line for line in lines if '"loss"' in line]) == len(results[0].curves.loss) == 12
    assert results[0].curves.psnr[-1] == (12.0, pytest.approx(results[0].figures.psnr))
    assert results[0].curves.used[-1] == (12.0, pytest.approx(results[0].figures.used))
