"""Curves through the codes: tokens by hand on a curve of three corners, training against its formula."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from tokenizer.quantizers import Curve, build_quantizer
from tokenizer.quantizers.space_filling import SFVQ, SFDiVeQ

METHODS = ["sf-diveq", "sf-diveq-detach", "sfvq"]

# Right along the x axis, then up: (0, 0) - (4, 0) - (4, 4).
CORNERS = torch.tensor([[0.0, 0.0], [4.0, 0.0], [4.0, 4.0]])


def curve(corners: torch.Tensor, points: int = 1, name: str = "sf-diveq", **options: float) -> Curve:
    made = build_quantizer({"name": name, "codebook_size": len(corners), "points": points, **options}, corners.shape[1])
    assert isinstance(made, Curve)
    made.table.place(corners)
    return made


@pytest.mark.parametrize(
    ("points", "tokens", "vectors"),
    [
        (1, [0, 0, 1, 1], [[2, 0], [2, 0], [4, 2], [4, 2]]),
        (2, [0, 1, 2, 3], [[1, 0], [3, 0], [4, 1], [4, 3]]),
        (4, [1, 3, 4, 7], [[1.5, 0], [3.5, 0], [4, 0.5], [4, 3.5]]),
    ],
)
def test_tokens_and_vectors_by_hand(points: int, tokens: list[int], vectors: list[list[float]]) -> None:
    # A piece of a segment 4 long is 4, 2 or 1 long; it decodes to its middle.
    made = curve(CORNERS, points)
    z = torch.tensor([[1.2, 0.3], [3.3, -1.0], [5.0, 0.9], [4.0, 9.0]])
    found = made.encode(z)
    assert found.flatten().tolist() == tokens
    assert made.decode(found).tolist() == vectors


@pytest.mark.parametrize(("corners", "points", "size"), [(3, 1, 2), (3, 4, 8), (2, 1, 1), (2, 8, 8), (1025, 2, 2048)])
def test_the_alphabet_is_the_true_rate(corners: int, points: int, size: int) -> None:
    # (K - 1) points pieces: log2((K - 1) points) bits, not log2 K.
    made = curve(torch.randn(corners, 2), points)
    assert made.sizes == (size,)
    assert made.pieces().shape == (size, 2)
    assert math.log2(size) == math.log2(corners - 1) + math.log2(points)


def explicit(
    name: str, z: torch.Tensor, corners: torch.Tensor, noise_std: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return vectors, segments and dithers of the training formula, with the numbers drawn in its order."""
    dither = torch.rand(len(corners) - 1, 1)
    points = (1 - dither) * corners[:-1] + dither * corners[1:]
    segment = torch.cdist(z, points).argmin(dim=1)
    t, a, b = dither[segment], corners[segment] - z, corners[segment + 1] - z
    if name == "sfvq":
        gap = (1 - t) * a + t * b
        v = torch.randn_like(z)
        return z + gap.norm(dim=1, keepdim=True) * (v / v.norm(dim=1, keepdim=True)), segment, t
    out = z
    for gap, share in ((a, 1 - t), (b, t)):
        noisy = gap + noise_std * torch.randn_like(z) if name == "sf-diveq" else gap
        out = out + gap.norm(dim=1, keepdim=True) * (share * noisy / noisy.norm(dim=1, keepdim=True)).detach()
    return out, segment, t


@pytest.mark.parametrize("name", METHODS)
def test_training_is_the_formula_with_its_gradients(name: str) -> None:
    torch.manual_seed(0)
    corners, z, g = torch.randn(6, 3), torch.randn(50, 3), torch.randn(50, 3)
    made = curve(corners, 4, name, **({"noise_std": 0.3} if name == "sf-diveq" else {})).train()
    first = z.clone().requires_grad_()
    torch.manual_seed(2)
    result = made(first)
    result.vectors.backward(g)

    second, leaf = z.clone().requires_grad_(), corners.clone().requires_grad_()
    torch.manual_seed(2)
    wanted, segment, t = explicit(name, second, leaf, 0.3)
    wanted.backward(g)
    torch.testing.assert_close(result.vectors, wanted)
    torch.testing.assert_close(first.grad, second.grad)
    torch.testing.assert_close(made.table.weight.grad, leaf.grad)
    # The token is the piece that the random point lies on.
    assert torch.equal(result.tokens[:, 0], segment * 4 + (4 * t[:, 0]).long())
    assert result.loss == 0


def test_without_noise_training_gives_the_random_point_itself() -> None:
    made = curve(CORNERS, name="sf-diveq-detach").train()
    torch.manual_seed(4)
    vectors = made(torch.tensor([[1.0, 1.0], [5.0, 3.0]])).vectors.detach()
    torch.manual_seed(4)
    first, second = (4 * torch.rand(2, 1)).flatten().tolist()
    torch.testing.assert_close(vectors, torch.tensor([[first, 0.0], [4.0, second]]))


@pytest.mark.parametrize("name", METHODS)
def test_both_ends_of_a_segment_learn(name: str) -> None:
    made = curve(CORNERS, name=name).train()
    (made(torch.tensor([[1.0, 1.0]])).vectors * torch.tensor([1.0, 2.0])).sum().backward()
    assert made.table.weight.grad.any(dim=1).tolist() == [True, True, False]


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("points", [1, 3])
def test_tokens_of_training_lie_in_the_alphabet_of_inference(name: str, points: int) -> None:
    torch.manual_seed(0)
    made = curve(torch.randn(9, 2), points, name).train()
    seen = torch.cat([made(2 * torch.randn(200, 2)).tokens for _ in range(30)])
    assert seen.unique().flatten().tolist() == list(range(8 * points))
    assert made.eval().decode(seen).shape == (6000, 2)


def test_more_points_never_raise_the_error() -> None:
    # Three pieces where there was one have its middle among theirs: no latent can lose.
    torch.manual_seed(0)
    corners, z = torch.randn(12, 3), torch.randn(2000, 3)
    errors = [(curve(corners, points).eval()(z).vectors - z).norm(dim=1).detach() for points in (1, 3, 9, 27)]
    for coarse, fine in itertools.pairwise(errors):
        assert (fine <= coarse + 1e-5).all()
        assert fine.mean() < coarse.mean()


@pytest.mark.parametrize("name", METHODS)
def test_a_segment_of_no_length_is_finite(name: str) -> None:
    """A fault of public code: the projection on it divides by 0."""
    made = curve(torch.tensor([[1.0, 1.0], [1.0, 1.0], [1.0, 1.0]]), 2, name).train()
    z = torch.tensor([[1.0, 1.0], [0.0, 0.0]], requires_grad=True)
    vectors = made(z).vectors
    assert torch.isfinite(vectors).all()
    vectors.sum().backward()
    assert torch.isfinite(z.grad).all()
    assert torch.isfinite(made.table.weight.grad).all()
    assert made.eval()(z.detach()).vectors.tolist() == [[1, 1], [1, 1]]


@pytest.mark.parametrize("name", METHODS)
def test_two_corners_are_one_segment(name: str) -> None:
    made = curve(CORNERS[:2], name=name)
    assert made.sizes == (1,)
    assert made.train()(torch.randn(5, 2)).tokens.tolist() == [[0]] * 5
    assert made.eval()(torch.randn(5, 2)).vectors.tolist() == [[2, 0]] * 5


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="codebook_size is 1 and points 1"):
        SFDiVeQ(2, codebook_size=1)
    with pytest.raises(ValueError, match="points 0"):
        SFVQ(2, codebook_size=4, points=0)
    with pytest.raises(ValueError, match="noise_std is -1"):
        SFDiVeQ(2, codebook_size=4, noise_std=-1.0)


@pytest.mark.parametrize("name", METHODS)
def test_nothing_is_re_seeded(name: str) -> None:
    made = curve(CORNERS, name=name).train()
    for _ in range(60):
        made(torch.zeros(3, 2))
    assert made.replace_dead_codes() == []


def test_initialize_joins_near_corners() -> None:
    # Latents along a line: the corners follow it from one end to the other.
    torch.manual_seed(0)
    made = curve(torch.randn(10, 2))
    along = torch.linspace(0, 100, 1000)
    made.initialize(torch.stack([along, 2 * along], dim=1)[torch.randperm(1000)])
    steps = made.code_vectors().detach().diff(dim=0)[:, 0]
    assert (steps > 0).all() or (steps < 0).all()
