"""DiVeQ and NSVQ against numbers made by hand, and their closed-form gradients in float64."""

from __future__ import annotations

import pytest
import torch

from tokenizer.quantizers import CodebookQuantizer
from tokenizer.quantizers.diveq import NSVQ, DiVeQ, DiVeQDetach


def step(quantizer: CodebookQuantizer, z: torch.Tensor, codes: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
    out = quantizer.estimate(z, codes)
    out.backward(g)
    return out.detach()


def test_detach_by_hand() -> None:
    # e = (3, 4): |e| = 5, u = (0.6, 0.8). With g = (1, 0): u u^T g = (0.36, 0.48), the rest (0.64, -0.48).
    z = torch.tensor([[1.0, 2.0]], dtype=torch.float64, requires_grad=True)
    code = torch.tensor([[4.0, 6.0]], dtype=torch.float64, requires_grad=True)
    out = step(DiVeQDetach(2, codebook_size=1), z, code, torch.tensor([[1.0, 0.0]], dtype=torch.float64))
    torch.testing.assert_close(out, code.detach(), rtol=1e-15, atol=0)
    torch.testing.assert_close(code.grad, torch.tensor([[0.36, 0.48]], dtype=torch.float64), rtol=1e-14, atol=0)
    torch.testing.assert_close(z.grad, torch.tensor([[0.64, -0.48]], dtype=torch.float64), rtol=1e-14, atol=0)


@pytest.mark.parametrize("alpha", [0.5, 2.0, 3.0])
def test_detach_with_a_power_of_the_distance_by_hand(alpha: float) -> None:
    # As above. d|e|^alpha (e / |e|^alpha) = alpha u u^T: the code gets alpha (0.36, 0.48), the latent the rest of g.
    z = torch.tensor([[1.0, 2.0]], dtype=torch.float64, requires_grad=True)
    code = torch.tensor([[4.0, 6.0]], dtype=torch.float64, requires_grad=True)
    out = step(DiVeQDetach(2, codebook_size=1, alpha=alpha), z, code, torch.tensor([[1.0, 0.0]], dtype=torch.float64))
    along = alpha * torch.tensor([[0.36, 0.48]], dtype=torch.float64)
    torch.testing.assert_close(out, code.detach(), rtol=1e-14, atol=0)
    torch.testing.assert_close(code.grad, along, rtol=1e-14, atol=0)
    torch.testing.assert_close(z.grad, torch.tensor([[1.0, 0.0]], dtype=torch.float64) - along, rtol=1e-14, atol=0)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_detach_takes_no_step_from_a_latent_on_its_code(alpha: float) -> None:
    z = torch.ones(1, 3, dtype=torch.float64, requires_grad=True)
    code = torch.ones(1, 3, dtype=torch.float64, requires_grad=True)
    g = torch.tensor([[1.0, -2.0, 3.0]], dtype=torch.float64)
    out = step(DiVeQDetach(3, codebook_size=1, alpha=alpha), z, code, g)
    assert torch.equal(out, code.detach())
    assert torch.equal(z.grad, g)
    assert not code.grad.any()


def test_detach_splits_the_gradient_orthogonally() -> None:
    torch.manual_seed(0)
    z = torch.randn(50, 7, dtype=torch.float64, requires_grad=True)
    codes = torch.randn(50, 7, dtype=torch.float64, requires_grad=True)
    g = torch.randn(50, 7, dtype=torch.float64)
    out = step(DiVeQDetach(7, codebook_size=1), z, codes, g)
    torch.testing.assert_close(out, codes.detach())
    assert z.grad is not None
    assert codes.grad is not None
    torch.testing.assert_close(z.grad + codes.grad, g)
    torch.testing.assert_close(
        (z.grad * codes.grad).sum(dim=1), torch.zeros(50, dtype=torch.float64), atol=1e-14, rtol=0
    )


@pytest.mark.parametrize("noise_std", [1e-3, 0.5])
def test_noisy_gradients_have_their_closed_form(noise_std: float) -> None:
    torch.manual_seed(0)
    z = torch.randn(50, 7, dtype=torch.float64, requires_grad=True)
    codes = torch.randn(50, 7, dtype=torch.float64, requires_grad=True)
    g = torch.randn(50, 7, dtype=torch.float64)
    torch.manual_seed(3)
    out = step(DiVeQ(7, codebook_size=1, noise_std=noise_std), z, codes, g)
    torch.manual_seed(3)
    DiVeQ(7, codebook_size=1)  # draws the codebook, as above
    noise = noise_std * torch.randn(50, 7, dtype=torch.float64)
    e = (codes - z).detach()
    u = e / e.norm(dim=1, keepdim=True)
    noisy = (e + noise) / (e + noise).norm(dim=1, keepdim=True)
    along = (g * noisy).sum(dim=1, keepdim=True) * u
    torch.testing.assert_close(out, z.detach() + e.norm(dim=1, keepdim=True) * noisy)
    torch.testing.assert_close(codes.grad, along)
    torch.testing.assert_close(z.grad, g - along)


def test_nsvq_by_hand_with_the_noise_known() -> None:
    # e = (3, 4), |e| = 5. With n = unit(v) the output is z + 5 n; dL/dc = (g . n) u and dL/dz = g - (g . n) u.
    z = torch.tensor([[1.0, 2.0]], dtype=torch.float64, requires_grad=True)
    code = torch.tensor([[4.0, 6.0]], dtype=torch.float64, requires_grad=True)
    g = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    made = NSVQ(2, codebook_size=1)
    torch.manual_seed(3)
    out = step(made, z, code, g)
    torch.manual_seed(3)
    v = torch.randn(1, 2, dtype=torch.float64)
    n = v / v.norm()
    assert abs(float(v.norm() - 1)) > 0.1, "a noise of length 1 would prove nothing"
    along = n[0, 0] * torch.tensor([[0.6, 0.8]], dtype=torch.float64)
    torch.testing.assert_close(out, z.detach() + 5 * n)
    torch.testing.assert_close(code.grad, along)
    torch.testing.assert_close(z.grad, g - along)


def test_nsvq_goes_in_every_direction_as_far_as_the_code_is() -> None:
    torch.manual_seed(0)
    gap = NSVQ(3, codebook_size=1).estimate(torch.zeros(20_000, 3), torch.tensor([0.0, 0.0, 7.0]).expand(20_000, 3))
    torch.testing.assert_close(gap.norm(dim=1), torch.full((20_000,), 7.0))
    # A mean of 20,000 directions is shorter than 5 / sqrt(20,000) of their length.
    assert gap.mean(dim=0).norm() < 7 * 0.036


def test_noise_is_a_standard_deviation() -> None:
    # With |e| = 1 and small noise, the output's distance from the code is that of the noise across e: about
    # noise_std * sqrt(D - 1). As a variance, 1e-3 would give thirty times that.
    torch.manual_seed(0)
    z = torch.zeros(20_000, 5)
    codes = torch.zeros(20_000, 5)
    codes[:, 0] = 1
    spread = (DiVeQ(5, codebook_size=1, noise_std=1e-3).estimate(z, codes) - codes)[:, 1:].std()
    assert 0.97e-3 < spread < 1.03e-3


def test_nothing_of_n_times_k_is_kept_for_backward() -> None:
    rows, codes = 3000, 2000
    quantizer = DiVeQ(8, codebook_size=codes).train()
    kept: list[int] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.numel())
        return tensor

    z = torch.randn(rows, 8, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        quantizer(z)
    assert kept
    assert max(kept) <= max(rows, codes) * 8


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="noise_std is -1"):
        DiVeQ(4, codebook_size=8, noise_std=-1)
    with pytest.raises(ValueError, match="alpha is 0"):
        DiVeQDetach(4, codebook_size=8, alpha=0)
