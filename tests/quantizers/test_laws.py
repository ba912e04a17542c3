"""What every quantizer must obey. A new method, and what it makes of each transform, is tested without another line."""

from __future__ import annotations

import copy
import functools
import re
from typing import Any

import pytest
import torch

from tokenizer import quantizers
from tokenizer.errors import ConfigError
from tokenizer.quantizers import METHODS, STAGES, CodebookQuantizer, DeadCodeReplacement, PlainTable, Quantizer
from tokenizer.quantizers.tables import TRANSFORMS

WIDTH = 6

# `ema` sets each code itself, and refuses both.
FREE = [name for name, method in sorted(METHODS.items()) if issubclass(method.cls, CodebookQuantizer) and name != "ema"]
NESTED = [
    "residual(3*diveq)",
    "residual(diveq, fsq)",
    "residual(2*ste)",
    "residual(gumbel, ema)",
    "residual(2*ema)",
    "residual(product(2*ema), ema)",
    "multiscale(2*ema, scales=1 2)",
    "residual(ste, product(gumbel, ibq))",
    "residual(2*diveq, transform=linear)",
    "product(2*diveq)",
    "product(2*diveq, normalize=sphere)",
    "product(2*ste)",
    "product(2*residual(2*diveq))",
    "residual(product(2*diveq), ema)",
    "multiscale(2*diveq, scales=1 2)",
    "multiscale(diveq, scales=1 2 4)",
    "multiscale(residual(2*diveq), scales=1 2)",
    "multiscale(gumbel, sf-diveq, scales=1 2)",
    "sf-diveq(points=4)",
    "diveq-detach(alpha=0.5)",
    "gumbel(top_k=5)",
    "gumbel(learn_temperature=true)",
    "rotation(update=ema)",
    "ste(learn_beta=true)",
]
SPECS = [
    *sorted(METHODS),
    *(f"{name}(transform={transform})" for name in FREE for transform in TRANSFORMS if transform != "none"),
    *(f"{name}(normalize={normalize})" for name in FREE for normalize in ("sphere", "rms")),
    *(text for text in NESTED if "fsq" not in text or "fsq" in METHODS),
]


def spec_of(text: str) -> dict[str, Any]:
    spec = quantizers.read_spec(text)
    options = METHODS[spec["name"]].options
    return {**spec, "codebook_size": 16} if {"codebook_size", STAGES} & set(options) else spec


def make(text: str, seed: int) -> Quantizer:
    torch.manual_seed(seed)
    return quantizers.build_quantizer(spec_of(text), quantizers.fitting_width(spec_of(text), WIDTH))


@functools.cache
def _started(text: str) -> Quantizer:
    made = make(text, 1)
    made.initialize(latents(made, 500, seed=3))
    return made.eval()


@pytest.fixture(params=SPECS)
def text(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def quantizer(text: str) -> Quantizer:
    return copy.deepcopy(_started(text))


def latents(quantizer: Quantizer, *shape: int, seed: int = 7) -> torch.Tensor:
    """Return (*shape, D) latents; those of one block are alike."""
    generator = torch.Generator().manual_seed(seed)
    count = quantizer.block**2
    alike = torch.randn(*shape, 1, quantizer.dim // count, generator=generator)
    return (alike + 0.4 * torch.randn(*shape, count, quantizer.dim // count, generator=generator)).flatten(-2)


def state(quantizer: Quantizer) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in [*quantizer.named_parameters(), *quantizer.named_buffers()]}


def assert_same(quantizer: Quantizer, before: dict[str, torch.Tensor]) -> None:
    after = state(quantizer)
    assert after.keys() == before.keys()
    for name, value in after.items():
        assert torch.equal(value, before[name]), name


def test_shapes_and_types(quantizer: Quantizer) -> None:
    z = latents(quantizer, 2, 3, 5)
    tokens = quantizer.encode(z)
    assert tokens.shape == (2, 3, 5, len(quantizer.sizes))
    assert tokens.dtype == torch.int64
    for result in (quantizer(z), quantizer.train()(z)):
        assert result.tokens.shape == tokens.shape
        assert result.tokens.dtype == torch.int64
        assert result.vectors.shape == z.shape
        assert result.vectors.dtype == torch.float32
        assert result.loss.shape == ()


def test_tokens_are_in_range_and_not_all_alike(quantizer: Quantizer) -> None:
    z = 3 * latents(quantizer, 400)
    for tokens in (quantizer.encode(z), quantizer.train()(z).tokens):
        for slot, size in enumerate(quantizer.sizes):
            assert tokens[:, slot].min() >= 0
            assert tokens[:, slot].max() < size
            assert tokens[:, slot].unique().numel() > 1


def test_evaluation_is_decode_of_encode(quantizer: Quantizer) -> None:
    z = latents(quantizer, 50)
    result = quantizer(z)
    assert torch.equal(result.tokens, quantizer.encode(z))
    assert torch.equal(result.vectors, quantizer.decode(quantizer.encode(z)))
    assert result.loss.shape == ()
    assert result.loss == 0


@pytest.mark.parametrize("text", [text for text in SPECS if not re.search(r"\bsf", text)])
def test_training_takes_the_tokens_of_encode(quantizer: Quantizer) -> None:
    # Curves aside: their training picks random points of the pieces.
    z = latents(quantizer, 200)
    tokens = quantizer.encode(z)
    assert torch.equal(quantizer.train()(z).tokens, tokens)


def test_evaluation_changes_no_state_and_draws_no_random_number(quantizer: Quantizer) -> None:
    z, before, random = latents(quantizer, 50), state(quantizer), torch.get_rng_state()
    first, second = quantizer(z), quantizer(z)
    assert torch.equal(first.tokens, second.tokens)
    assert torch.equal(first.vectors, second.vectors)
    assert torch.equal(random, torch.get_rng_state())
    assert_same(quantizer, before)


def test_encode_and_decode_are_pure_in_training_mode(quantizer: Quantizer) -> None:
    z, before, random = latents(quantizer, 50), state(quantizer), torch.get_rng_state()
    tokens = quantizer.encode(z)
    wanted = quantizer.decode(tokens)
    quantizer.train()
    for _ in range(2):
        assert torch.equal(quantizer.encode(z), tokens)
        assert torch.equal(quantizer.decode(tokens), wanted)
    assert torch.equal(random, torch.get_rng_state())
    assert_same(quantizer, before)


def test_encode_of_parts_is_part_of_encode(quantizer: Quantizer) -> None:
    z = latents(quantizer, 300)
    parts = [quantizer.encode(part) for part in (z[:1], z[1:8], z[8:173], z[173:])]
    assert torch.equal(torch.cat(parts), quantizer.encode(z))
    assert torch.equal(quantizer.encode(z.unflatten(0, (3, 4, 25))).flatten(0, 2), quantizer.encode(z))


def test_an_empty_batch_has_a_finite_loss_and_no_code_dies_of_it(quantizer: Quantizer) -> None:
    for part in quantizer.modules():
        if isinstance(part, DeadCodeReplacement):
            part.patience = 1
    for mode in (True, False):
        result = quantizer.train(mode)(torch.zeros(0, 4, quantizer.dim, requires_grad=True))
        assert result.tokens.shape == (0, 4, len(quantizer.sizes))
        assert result.vectors.shape == (0, 4, quantizer.dim)
        assert torch.isfinite(result.loss)
        before = state(quantizer)
        assert not any(change.rows.any() for change in quantizer.replace_dead_codes())
        assert_same(quantizer, before)


def test_wrong_width_and_wrong_number_of_codes_name_both_numbers(quantizer: Quantizer) -> None:
    wrong, codes = quantizer.dim + 3, len(quantizer.sizes)
    for verb in (quantizer.encode, quantizer.learn):
        with pytest.raises(ValueError, match=f"{wrong} wide.*takes {quantizer.dim}"):
            verb(torch.zeros(3, wrong))
    for count in (codes + 2, 0):
        with pytest.raises(ValueError, match=rf"{count} codes.*takes.*\b{codes}\b"):
            quantizer.decode(torch.zeros(3, count, dtype=torch.int64))


def test_state_dict_round_trip_gives_the_same_tokens(quantizer: Quantizer, text: str) -> None:
    other = make(text, 99).eval()
    z = latents(quantizer, 100)
    if quantizer.state_dict():
        assert not torch.equal(other(z).vectors, quantizer(z).vectors)
    other.load_state_dict(quantizer.state_dict())
    assert torch.equal(other.encode(z), quantizer.encode(z))
    assert torch.equal(other(z).vectors, quantizer(z).vectors)


def backward(quantizer: Quantizer, z: torch.Tensor) -> torch.Tensor:
    """Train one step on a linear function of the output; return the tokens."""
    result = quantizer.train()(z)
    weights = torch.randn(z.shape, generator=torch.Generator().manual_seed(5))
    ((result.vectors * weights).sum() + result.loss).backward()
    return result.tokens


def test_gradients_reach_latents_parameters_and_every_chosen_code(quantizer: Quantizer) -> None:
    with torch.no_grad():
        for parameter in quantizer.parameters():
            if not parameter.any():  # the last map of an MLP: nothing before it learns until it has moved
                parameter.normal_(std=0.01)
    z = latents(quantizer, 200).requires_grad_()
    tokens = backward(quantizer, z)
    assert z.grad is not None
    assert torch.isfinite(z.grad).all()
    assert (z.grad.abs().sum(dim=1) > 0).all()
    for name, parameter in quantizer.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
        if parameter.grad is not None:
            assert torch.isfinite(parameter.grad).all(), name
            assert parameter.grad.any(), name
    weights = [
        part.weight for part in quantizer.modules() if isinstance(part, PlainTable) and part.weight.requires_grad
    ]
    if weights:
        decoded = torch.autograd.grad(quantizer.decode(tokens).sum(), weights)
        for weight, through in zip(weights, decoded, strict=True):
            chosen = through.abs().sum(dim=1) > 0
            assert chosen.any()
            assert (weight.grad.abs().sum(dim=1) > 0)[chosen].all()


@pytest.mark.parametrize("where", ["on a code", "at 0"])
def test_gradients_are_finite(quantizer: Quantizer, where: str) -> None:
    with torch.no_grad():
        z = quantizer.decode(quantizer.encode(latents(quantizer, 10)))
    z = (torch.zeros_like(z) if where == "at 0" else z).requires_grad_()
    backward(quantizer, z)
    assert torch.isfinite(z.grad).all()  # type: ignore[arg-type]
    assert all(torch.isfinite(p.grad).all() for p in quantizer.parameters() if p.grad is not None)


def test_bfloat16_autocast_changes_no_token_and_no_vector(quantizer: Quantizer) -> None:
    z = latents(quantizer, 500)
    tokens = quantizer.encode(z)
    vectors = quantizer.decode(tokens)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(quantizer.encode(z), tokens)
        cast = quantizer.decode(tokens)
        learned = quantizer.train()(z)
    assert cast.dtype == learned.vectors.dtype == torch.float32
    assert torch.equal(cast, vectors)
    assert torch.isfinite(learned.vectors).all()


def test_latents_in_bfloat16_are_quantized_in_float32(quantizer: Quantizer) -> None:
    z = latents(quantizer, 100).bfloat16()
    assert torch.equal(quantizer.encode(z), quantizer.encode(z.float()))
    assert quantizer.train()(z).vectors.dtype == torch.float32


def test_resolved_spec_builds_the_same_quantizer(quantizer: Quantizer, text: str) -> None:
    spec = quantizers.resolve_spec(spec_of(text))
    assert spec == quantizers.resolve_spec(spec) == quantizer.spec
    assert quantizers.resolve_spec(quantizers.read_spec(quantizers.short_spec(spec))) == spec
    assert quantizers.resolve_spec(quantizers.read_spec(quantizers.write_spec(spec))) == spec
    other = quantizers.build_quantizer(quantizer.spec, quantizers.fitting_width(spec, WIDTH))
    assert (other.sizes, other.dim, other.block) == (quantizer.sizes, quantizer.dim, quantizer.block)


def test_merging_changes_no_token_and_its_spec_loads_it(quantizer: Quantizer, text: str) -> None:
    z = latents(quantizer, 200)
    with torch.no_grad():
        for parameter in quantizer.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)))
    tokens = quantizer.encode(z)
    vectors = quantizer.decode(tokens)
    quantizer.merge_()
    tables = [part.table for part in quantizer.modules() if isinstance(part, CodebookQuantizer)]
    assert all(isinstance(table, PlainTable) for table in tables)
    assert torch.equal(quantizer.encode(z), tokens)
    torch.testing.assert_close(quantizer.decode(tokens), vectors, rtol=0, atol=1e-6)
    other = quantizers.build_quantizer(quantizer.spec, quantizers.fitting_width(spec_of(text), WIDTH)).eval()
    other.load_state_dict(quantizer.state_dict())
    assert torch.equal(other(z).tokens, tokens)
    assert torch.equal(other(z).vectors, quantizer(z).vectors)


def test_each_prefix_decodes_and_longer_ones_are_nearer(quantizer: Quantizer) -> None:
    z = latents(quantizer, 500, seed=3)
    tokens, prefixes = quantizer.encode(z), quantizer.prefixes
    assert list(prefixes) == sorted(set(prefixes))
    assert prefixes[-1] == len(quantizer.sizes)
    errors = []
    for length in prefixes:
        with torch.no_grad():
            vectors = quantizer.decode(tokens[..., :length])
        assert vectors.shape == z.shape
        assert torch.isfinite(vectors).all()
        errors.append(float((vectors - z).square().mean()))
    assert errors == sorted(errors, reverse=True)
    for length in set(range(len(quantizer.sizes))) - set(prefixes):
        with pytest.raises(ValueError, match=f"{length} codes per position"):
            quantizer.decode(tokens[..., :length])


def test_moving_averages_refuse_transforms_and_normalization() -> None:
    for text in ("ema(transform=linear)", "ema(normalize=rms)", "rotation(update=ema, normalize=sphere)"):
        with pytest.raises(ConfigError, match="moving averages set each code vector themselves"):
            make(text, 0)
