"""What methods with one table share: normalization, the table's life, the errors."""

from __future__ import annotations

import pytest
import torch

from tokenizer.quantizers import CodebookQuantizer, build_quantizer
from tokenizer.quantizers.geometry import unit


def made(normalize: str) -> CodebookQuantizer:
    quantizer = build_quantizer({"name": "ste", "codebook_size": 2, "normalize": normalize}, 2)
    assert isinstance(quantizer, CodebookQuantizer)
    with torch.no_grad():
        quantizer.table.weight.copy_(torch.tensor([[30.0, 40.0], [1.0, 0.0]]))
    return quantizer


@pytest.mark.parametrize(("normalize", "radius"), [("none", None), ("sphere", 1.0), ("rms", 2**0.5)])
def test_codes_and_latents_lie_on_a_sphere_of_their_radius(normalize: str, radius: float | None) -> None:
    # (30, 40) has length 50: its direction is (0.6, 0.8). A root mean square of 1 in D = 2 is a length of sqrt(2).
    quantizer, scale = made(normalize), 50.0 if radius is None else radius
    wanted = torch.tensor([[0.6, 0.8], [1.0, 0.0]]) * torch.tensor([[scale], [radius or 1.0]])
    torch.testing.assert_close(quantizer.code_vectors(), wanted)
    torch.testing.assert_close(quantizer.decode(torch.tensor([[0], [1]])), wanted)
    z = torch.tensor([[0.3, 0.4]])
    torch.testing.assert_close(quantizer.prepare(z), z if radius is None else 2 * radius * z)


@pytest.mark.parametrize(("normalize", "token"), [("none", 1), ("sphere", 0), ("rms", 0)])
def test_on_a_sphere_the_nearest_code_is_the_one_at_the_least_angle(normalize: str, token: int) -> None:
    # (3, 3) is 45 degrees from (1, 0), and 8 degrees from the far (30, 40).
    assert made(normalize).encode(torch.tensor([[3.0, 3.0]])).tolist() == [[token]]


def test_normalization_passes_no_gradient_along_the_latent() -> None:
    z = torch.randn(20, 2, generator=torch.Generator().manual_seed(0)).requires_grad_()
    (made("sphere").train()(z).vectors * torch.tensor([2.0, -1.0])).sum().backward()
    assert z.grad.any()
    torch.testing.assert_close((z.grad * z).sum(dim=1), torch.zeros(20), rtol=0, atol=1e-5)


def test_unit_of_a_zero_vector_is_zero_with_a_finite_gradient() -> None:
    v = torch.tensor([[0.0, 0.0], [3.0, 4.0]], dtype=torch.float64, requires_grad=True)
    out = unit(v)
    assert out.tolist() == [[0.0, 0.0], [0.6, 0.8]]
    out.sum().backward()
    assert torch.isfinite(v.grad).all()


def test_a_token_means_the_code_of_its_row() -> None:
    quantizer = made("none")
    tokens = torch.tensor([[[1], [0]], [[0], [0]]], dtype=torch.uint8)
    assert quantizer.decode(tokens).tolist() == [[[1, 0], [30, 40]], [[30, 40], [30, 40]]]
