"""Against public packages: same latents, codebooks and noise. Where they are wrong, ours is pinned and theirs named.

`diveq` is the authors' own. Of `vector_quantize_pytorch` Gumbel sampling has no equal here: its logits are distances
that are not squared, and its value is one sampled code.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diveq import DIVEQ, SFDIVEQ, DIVEQDetach, ProductDIVEQ, ResidualDIVEQ, SFDIVEQDetach
from vector_quantize_pytorch import ResidualVQ, SimVQ, VectorQuantize

from tokenizer import quantizers
from tokenizer.quantizers import CodebookQuantizer, Quantizer
from tokenizer.quantizers.diveq import DiVeQ, DiVeQDetach

QUIET = {"allow_warning": False}
K, D, N = 40, 8, 300


def made(text: str, codebook_size: int = K) -> Quantizer:
    torch.manual_seed(0)
    return quantizers.build_quantizer({"name": text, "codebook_size": codebook_size}, D).train()


def tables(ours: Quantizer) -> list[torch.nn.Parameter]:
    return [part.table.weight for part in ours.modules() if isinstance(part, CodebookQuantizer)]


def draw(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def share(ours: Quantizer, codebook: torch.Tensor) -> None:
    """Give both the same (stages, K, D) or (K, D) random codes."""
    with torch.no_grad():
        codebook.copy_(draw(*codebook.shape, seed=1))
        for table, codes in zip(tables(ours), codebook.reshape(-1, *codebook.shape[-2:]), strict=True):
            table.copy_(codes)


def assert_equal_step(ours: Quantizer, theirs: Any, loss_share: float = 0.0) -> tuple[Any, torch.Tensor]:
    """Run both on the same latents and noise; compare vectors, tokens, and gradients of a linear loss at latents.

    `loss_share` is how much of their loss counts where it is compared: 0 leaves both losses out.
    """
    first, second, g = draw(N, D, seed=2).requires_grad_(), draw(N, D, seed=2).requires_grad_(), draw(N, D, seed=3)
    torch.manual_seed(4)
    vectors, tokens, loss = theirs.train()(first)
    torch.manual_seed(4)
    result = ours.train()(second)
    tokens = torch.stack(tokens, dim=1) if isinstance(tokens, list) else tokens.reshape(N, -1)
    assert torch.equal(result.tokens, tokens)
    torch.testing.assert_close(result.vectors, vectors)
    ((vectors * g).sum() + (loss_share * loss.sum() if loss_share else 0.0)).backward()
    ((result.vectors * g).sum() + (result.loss if loss_share else 0.0)).backward()
    return result, second.grad - first.grad


def assert_equal_gradients(ours: Quantizer, difference: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(difference, torch.zeros_like(difference), rtol=0, atol=2e-6)
    for table, grad in zip(tables(ours), theirs.reshape(-1, *theirs.shape[-2:]), strict=True):
        torch.testing.assert_close(table.grad, grad)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (DIVEQ(K, D, noise_var=0.05, verbose=False, **QUIET), DiVeQ(D, codebook_size=K, noise_std=0.05)),
        (DIVEQDetach(K, D, verbose=False, **QUIET), DiVeQDetach(D, codebook_size=K)),
        (ResidualDIVEQ(K, D, 3, noise_var=0.05, verbose=False, **QUIET), made("residual(3*diveq, noise_std=0.05)")),
        (ProductDIVEQ(K, D, 2, noise_var=0.05, verbose=False, **QUIET), made("product(2*diveq, noise_std=0.05)")),
    ],
    ids=["diveq", "diveq-detach", "residual", "product"],
)
def test_the_authors_diveq(theirs: torch.nn.Module, ours: Quantizer) -> None:
    """Their `noise_var` is used as a standard deviation, as `noise_std` is."""
    share(ours, theirs.codebook)
    _, difference = assert_equal_step(ours, theirs)
    assert_equal_gradients(ours, difference, theirs.codebook.grad)

    z = draw(N, D, seed=5)
    hard, tokens, _ = theirs.inference(z)
    result = ours.eval()(z)
    assert torch.equal(result.tokens, torch.stack(tokens, dim=1) if isinstance(tokens, list) else tokens[:, None])
    torch.testing.assert_close(result.vectors, hard)


def test_the_authors_curve_in_training() -> None:
    theirs = SFDIVEQ(K, D, noise_var=0.05, skip_iters=0, avg_iters=0, **QUIET)
    ours = made("sf-diveq(noise_std=0.05)")
    share(ours, theirs.codebook)
    _, difference = assert_equal_step(ours, theirs)
    assert_equal_gradients(ours, difference, theirs.codebook.grad)


def test_the_authors_curve_without_noise_leaves_out_the_second_corner() -> None:
    """Their fault: both terms of `SFDIVEQDetach` point to the first corner, so that its value lies on no curve.

    Ours is the dithered point, which is what their own package gives for a noise of nearly 0.
    """
    theirs = SFDIVEQDetach(K, D, skip_iters=0, avg_iters=0, **QUIET)
    noisy = SFDIVEQ(K, D, noise_var=1e-12, skip_iters=0, avg_iters=0, **QUIET)
    ours = made("sf-diveq-detach")
    share(ours, theirs.codebook)
    share(ours, noisy.codebook)
    z = draw(N, D, seed=2)
    found = []
    for module in (theirs, noisy, ours):
        torch.manual_seed(4)
        found.append(module(z))
    assert torch.equal(found[2].tokens[:, 0], found[0][1])
    torch.testing.assert_close(found[2].vectors, found[1][0])
    torch.manual_seed(4)
    dither, corners = torch.rand(K - 1, 1), tables(ours)[0]
    curve = (1 - dither) * corners[:-1] + dither * corners[1:]
    torch.testing.assert_close(found[2].vectors, curve[found[2].tokens[:, 0]])
    assert (found[0][0] - curve[found[0][1]]).norm(dim=1).min() > 0.01


def test_the_authors_curve_at_inference_gives_points_that_no_token_holds() -> None:
    """Their faults: a projection on the curve, whose place no integer carries; tokens that count corners, where
    training counts segments; and only the two segments next to the nearest corner are searched.

    Ours decodes from its tokens, and comes as near as theirs with enough points.
    """
    theirs = SFDIVEQ(K, D, skip_iters=0, avg_iters=0, **QUIET)
    z = draw(2000, D, seed=2)
    errors = []
    for points in (1, 64):
        ours = made(f"sf-diveq(points={points})")
        share(ours, theirs.codebook)
        result = ours.eval()(z)
        assert torch.equal(result.vectors, ours.decode(result.tokens))
        errors.append(float((result.vectors - z).norm(dim=1).detach().mean()))
    hard, tokens, _ = theirs.inference(z)
    assert len(hard.unique(dim=0)) > 10 * len(tokens.unique()), "one token stands for many vectors"
    assert int(tokens.max()) == K - 1, "there are K - 1 segments, from 0 to K - 2"
    assert errors[1] < errors[0]
    assert errors[1] < float((hard - z).norm(dim=1).mean()) + 1e-3


def test_the_authors_curve_divides_by_the_length_of_a_segment() -> None:
    """Their fault: two equal corners make a NaN of every latent near them."""
    theirs, ours = SFDIVEQ(3, D, skip_iters=0, avg_iters=0, **QUIET), made("sf-diveq", 3)
    with torch.no_grad():
        theirs.codebook.copy_(torch.ones(3, D))
        tables(ours)[0].copy_(theirs.codebook)
    assert theirs.inference(torch.zeros(2, D))[0].isnan().all()
    assert ours.eval()(torch.zeros(2, D)).vectors.tolist() == [[1.0] * D] * 2


def vq(**options: Any) -> VectorQuantize:
    learned = {"learnable_codebook": True, "ema_update": False} if "decay" not in options else {}
    return VectorQuantize(D, K, **{"rotation_trick": False, "threshold_ema_dead_code": 0, **learned, **options})


@pytest.mark.parametrize(("name", "rotation_trick"), [("ste", False), ("rotation", True)])
def test_straight_through_and_rotation(name: str, rotation_trick: bool) -> None:
    """Their learnable codebook has one weight for both losses: beta 1 here, and the value is half of ours."""
    theirs, ours = vq(commitment_weight=1.0, rotation_trick=rotation_trick), made(f"{name}(beta=1)")
    # Their directions are cut off at 1e-6, ours at 1e-12: these latents have a length of about 3.
    share(ours, theirs._codebook.embed)
    result, difference = assert_equal_step(ours, theirs, loss_share=1.0)
    assert_equal_gradients(ours, difference, theirs._codebook.embed.grad)
    loss = theirs(draw(N, D, seed=2))[2]
    torch.testing.assert_close(result.loss, 2 * loss.reshape(()))


@pytest.mark.parametrize("name", ["ema", "rotation(update=ema)"])
@pytest.mark.parametrize("decay", [0.8, 0.99])
def test_moving_averages_over_ten_steps(name: str, decay: float) -> None:
    theirs = vq(decay=decay, commitment_weight=0.25, eps=1e-5, rotation_trick=name != "ema")
    ours = made(name.replace("(", f"(decay={decay}, ") if "(" in name else f"{name}(decay={decay})")
    share(ours, theirs._codebook.embed)
    theirs._codebook.embed_avg.copy_(theirs._codebook.embed)
    ours.averages.restart(ours.table())  # as theirs: one latent at each code
    for step in range(10):
        z, g = draw(N, D, seed=10 + step) + 0.1 * step, draw(N, D, seed=50 + step)
        first, second = z.clone().requires_grad_(), z.clone().requires_grad_()
        vectors, tokens, loss = theirs.train()(first)
        result = ours(second)
        assert torch.equal(result.tokens[:, 0], tokens)
        torch.testing.assert_close(result.vectors, vectors)
        torch.testing.assert_close(result.loss, loss.reshape(()))
        ((vectors * g).sum() + loss.sum()).backward()
        ((result.vectors * g).sum() + result.loss).backward()
        torch.testing.assert_close(second.grad, first.grad)
        torch.testing.assert_close(ours.averages.counts, theirs._codebook.cluster_size[0])
        torch.testing.assert_close(ours.averages.sums, theirs._codebook.embed_avg[0], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(ours.table(), theirs._codebook.embed[0], rtol=1e-5, atol=1e-5)


def test_cosine_similarity_is_the_nearest_on_the_sphere() -> None:
    """Their codebook follows averages there, ours the loss: only what reaches the latents is the same."""
    theirs = vq(decay=0.8, use_cosine_sim=True, commitment_weight=0.25)
    ours = made("ste(normalize=sphere)")
    share(ours, theirs._codebook.embed)
    with torch.no_grad():
        theirs._codebook.embed.copy_(torch.nn.functional.normalize(theirs._codebook.embed, dim=-1))
    result, difference = assert_equal_step(ours, theirs, loss_share=1.0)
    torch.testing.assert_close(difference, torch.zeros_like(difference), rtol=0, atol=2e-6)
    torch.testing.assert_close(result.vectors.norm(dim=1), torch.ones(N))


def test_directional_reparametrization_is_diveq() -> None:
    """Their `directional_reparam_variance` is a variance."""
    # A threshold above 0 is asked for; one that no count falls below re-seeds nothing.
    theirs = VectorQuantize(
        D, K, directional_reparam=True, directional_reparam_variance=0.04, threshold_ema_dead_code=1e-9
    )
    ours = made("diveq(noise_std=0.2)")
    share(ours, theirs._codebook.embed)
    _, difference = assert_equal_step(ours, theirs)
    assert_equal_gradients(ours, difference, theirs._codebook.embed.grad)


@pytest.mark.parametrize(("name", "rotation_trick"), [("ste", False), ("rotation", True)])
def test_simvq(name: str, rotation_trick: bool) -> None:
    theirs = SimVQ(D, K, rotation_trick=rotation_trick, input_to_quantize_commit_loss_weight=0.25)
    ours = made(f"{name}(transform=linear-frozen)")
    with torch.no_grad():
        ours.table.basis.copy_(theirs.frozen_codebook)
        ours.table.map.copy_(theirs.code_transform.weight.T)
    first, second, g = (
        draw(3, 100, D, seed=2).requires_grad_(),
        draw(3, 100, D, seed=2).requires_grad_(),
        draw(3, 100, D, seed=3),
    )
    vectors, tokens, loss = theirs(first)
    result = ours(second)
    assert torch.equal(result.tokens[..., 0], tokens)
    torch.testing.assert_close(result.vectors, vectors)
    torch.testing.assert_close(result.loss, loss)
    ((vectors * g).sum() + loss).backward()
    ((result.vectors * g).sum() + result.loss).backward()
    torch.testing.assert_close(second.grad, first.grad)
    torch.testing.assert_close(ours.table.map.grad, theirs.code_transform.weight.grad.T)
    torch.testing.assert_close(ours.decode(result.tokens), theirs.indices_to_codes(tokens))


def residual_vq(stages: int, **options: Any) -> ResidualVQ:
    return ResidualVQ(dim=D, num_quantizers=stages, codebook_size=K, **options)


def share_stages(ours: Quantizer, theirs: ResidualVQ) -> None:
    with torch.no_grad():
        for number, (table, layer) in enumerate(zip(tables(ours), theirs.layers, strict=True)):
            layer._codebook.embed.copy_(draw(1, K, D, seed=20 + number))
            table.copy_(layer._codebook.embed[0])


def test_residual_straight_through_but_for_the_gradient_at_the_latents() -> None:
    """Their fault: each stage copies the decoder's gradient to the latents, so that n stages give n times that."""
    theirs = residual_vq(3, learnable_codebook=True, ema_update=False, rotation_trick=False, commitment_weight=1.0)
    ours = made("residual(3*ste, beta=1)")
    share_stages(ours, theirs)
    result, difference = assert_equal_step(ours, theirs, loss_share=1.0)
    torch.testing.assert_close(difference, -2 * draw(N, D, seed=3), rtol=0, atol=5e-6)
    torch.testing.assert_close(result.loss, 2 * theirs(draw(N, D, seed=2))[2].sum())
    for table, layer in zip(tables(ours), theirs.layers, strict=True):
        torch.testing.assert_close(table.grad, layer._codebook.embed.grad[0])


def test_residual_moving_averages() -> None:
    """What a stage leaves over is made of the codes that it chose, not of where they have moved since."""
    theirs = residual_vq(3, decay=0.8, rotation_trick=False, commitment_weight=0.25)
    ours = made("residual(3*ema, decay=0.8)")
    share_stages(ours, theirs)
    for layer, stage in zip(theirs.layers, ours.stages, strict=True):
        layer._codebook.embed_avg.copy_(layer._codebook.embed)
        stage.averages.restart(stage.table())
    for step in range(5):
        z = draw(N, D, seed=60 + step)
        vectors, tokens, losses = theirs.train()(z)
        result = ours(z)
        assert torch.equal(result.tokens, tokens)
        torch.testing.assert_close(result.vectors, vectors)
        torch.testing.assert_close(result.loss, losses.sum())
        for table, layer in zip(tables(ours), theirs.layers, strict=True):
            torch.testing.assert_close(table.detach(), layer._codebook.embed[0], rtol=1e-5, atol=1e-5)


def test_residual_diveq() -> None:
    """One step on the whole error, as in the authors' package; their variance is fixed at 5e-3."""
    theirs, ours = residual_vq(3, diveq=True), made(f"residual(3*diveq, noise_std={5e-3**0.5})")
    share_stages(ours, theirs)
    _, difference = assert_equal_step(ours, theirs)
    torch.testing.assert_close(difference, torch.zeros_like(difference), rtol=0, atol=2e-6)
    for table, layer in zip(tables(ours), theirs.layers, strict=True):
        torch.testing.assert_close(table.grad, layer._codebook.embed.grad[0])
