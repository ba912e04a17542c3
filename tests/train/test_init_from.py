"""Starting from a checkpoint: what it has is there to the last bit, what is frozen stays so, new codes go where errors
are largest."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.conftest import TINY
from tests.train.test_loop import everything, whole_run
from tokenizer import quantizers, train
from tokenizer.config import TrainConfig
from tokenizer.errors import CheckpointError, ConfigError
from tokenizer.models import Tokenizer, describe_checkpoint, load_checkpoint, save_checkpoint
from tokenizer.quantizers import CodebookQuantizer, MovingAverages, Quantizer, dead_codes
from tokenizer.train import TrainingState, init_settings
from tokenizer.train.init_from import place_code_vectors
from tokenizer.train.optimizers import update_ema

Begin = Callable[..., TrainingState]


@pytest.fixture
def begin(quick: TrainConfig, photos: Path) -> Begin:
    """Begin a run on `photos` from a checkpoint, with settings changed."""

    def call(folder: Path, **changes: Any) -> TrainingState:
        return train.begin_run(train.plan_run(tuned(quick, folder, **changes), [photos]))

    return call


def tuned(quick: TrainConfig, folder: Path, **changes: Any) -> TrainConfig:
    return dataclasses.replace(quick, init_from=str(folder), **changes)


def untrained(spec: Mapping[str, Any], folder: Path) -> Tokenizer:
    """Save a tokenizer with random weights, and return it."""
    torch.manual_seed(1)
    model = Tokenizer(TINY, spec)
    save_checkpoint(folder, model, {})
    return model


def same_bits(first: Tensor, second: Tensor) -> bool:
    """Tell 0 from -0 too."""
    return torch.equal(first.detach().cpu(), second.detach().cpu()) and torch.equal(
        first.detach().cpu().signbit(), second.detach().cpu().signbit()
    )


def unequal(first: Tokenizer, second: Tokenizer) -> set[str]:
    """Return the parts in which two tokenizers differ in any bit."""
    other = second.state_dict()
    return {name.split(".")[0] for name, value in first.state_dict().items() if not same_bits(value, other[name])}


def codes_of(quantizer: Quantizer) -> Tensor:
    assert isinstance(quantizer, CodebookQuantizer)
    return quantizer.code_vectors().detach()


@pytest.mark.parametrize("name", ["diveq", "diveq-detach", "nsvq", "ste", "ema", "rotation", "gumbel", "ibq"])
def test_weights_and_codes_are_the_checkpoint_s(run: Path, begin: Begin, name: str) -> None:
    state, source = begin(run, quantizer={"name": name, "codebook_size": 32}), load_checkpoint(run)
    assert state.quantizing
    for model in (state.model, state.ema):
        assert unequal(source, model) == set()
    assert state.model.training
    assert not state.ema.training
    assert state.model.encoder.layers[1].weight.is_contiguous(memory_format=torch.channels_last)  # type: ignore[union-attr, operator]
    tokens = torch.arange(32)[:, None]
    assert same_bits(state.model.quantizer.decode(tokens), source.quantizer.decode(tokens))


def test_moving_averages_restart_at_the_codes(run: Path, begin: Begin) -> None:
    state = begin(run, quantizer={"name": "ema", "codebook_size": 32})
    averages = state.model.quantizer.averages
    assert isinstance(averages, MovingAverages)
    assert torch.equal(averages.sums, codes_of(state.model.quantizer))
    assert torch.equal(averages.counts, torch.ones(32))


def test_the_codebook_is_in_use_from_the_first_step_and_nothing_is_placed(
    run: Path, quick: TrainConfig, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(CodebookQuantizer, "initialize")
    _, steps = whole_run(tuned(quick, run, log_every=1), photos, tmp_path)
    assert all(step.figures["used"] > 0 for step in steps if step.figures)
    assert steps[0].figures


def test_codes_are_placed_anew_on_request(run: Path, quick: TrainConfig, photos: Path, tmp_path: Path) -> None:
    """In the first step the learning rate is 0: networks are the checkpoint's, codes are k-means's."""
    source = load_checkpoint(run)
    state, _ = whole_run(tuned(quick, run, quantize_after=0.0, steps=1), photos, tmp_path)
    assert state.quantizing
    assert unequal(source, state.model) == {"quantizer"}
    moved = (codes_of(state.model.quantizer) - codes_of(source.quantizer)).norm(dim=1)
    assert (moved > 0).all()


def test_frozen_codes_are_not_placed_anew(quick: TrainConfig, run: Path) -> None:
    (fault,) = tuned(quick, run, quantize_after=0.0, freeze=("codebook",)).faults()
    assert fault == "quantize_after is 0.0: it places the codes anew, and freeze names codebook"


def test_a_deeper_network_begins_with_what_the_checkpoint_computes(run: Path, begin: Begin) -> None:
    source = load_checkpoint(run)
    network = dataclasses.replace(source.network, decoder_depths=(1, 3), linear=True)
    model = begin(run, network=network).ema
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    tokens = model.encode(images)
    assert torch.equal(tokens, source.encode(images))
    torch.testing.assert_close(model.decode(tokens), source.decode(tokens))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"depths": (0, 1)}, "network.depths is (1, 1) there, now (0, 1)"),
        ({"decoder_depths": (1, 0)}, "network.decoder_depths is None there, now (1, 0)"),
        ({"decoder_widths": (32, 24)}, "network.decoder_widths is None there, now (32, 24)"),
        ({"latent_dim": 5}, "network.latent_dim is 4 there, now 5"),
    ],
)
def test_a_smaller_or_other_network_is_refused(run: Path, begin: Begin, changes: dict[str, Any], named: str) -> None:
    network = dataclasses.replace(load_checkpoint(run).network, **changes)
    with pytest.raises(ConfigError) as raised:
        begin(run, network=network)
    assert named in str(raised.value)


def test_options_that_are_learned_are_taken_over(tmp_path: Path, begin: Begin) -> None:
    spec = {"name": "ste", "codebook_size": 32, "learn_beta": True, "beta": 0.7}
    untrained(spec, tmp_path / "ste")
    state = begin(tmp_path / "ste", quantizer={"name": "rotation", "codebook_size": 32})
    assert state.quantizing
    state = begin(tmp_path / "ste", quantizer={"name": "ste", "codebook_size": 32, "learn_beta": True})
    assert float(state.ema.quantizer.log_beta.exp()) == pytest.approx(0.7)  # type: ignore[union-attr, operator]


@pytest.mark.parametrize("name", ["fsq", "lfq"])
def test_quantizers_without_a_codebook_go_on(tmp_path: Path, begin: Begin, name: str) -> None:
    spec = {"name": name, "codebook_size": 16}
    source = untrained(spec, tmp_path / "c")
    state = begin(tmp_path / "c", quantizer=spec)
    assert state.quantizing
    assert unequal(source, state.model) == set()


def test_new_codes_start_where_the_error_is_largest(run: Path, begin: Begin) -> None:
    model = begin(run, quantizer={"name": "diveq", "codebook_size": 40}).model
    old = codes_of(load_checkpoint(run).quantizer)
    far = old.mean(dim=0) + 1000 * torch.eye(4)
    near = old.repeat(50, 1) + 1e-3 * torch.randn(1600, 4)
    assert codes_of(model.quantizer)[32:].isnan().all()
    z = torch.cat([near, far])
    place_code_vectors(model.quantizer, z)
    codes = codes_of(model.quantizer)
    assert same_bits(codes[:32], old)
    # A noise of a hundredth of the latents' spread keeps two codes on one latent apart.
    spread = 0.01 * float(z.std(correction=0))
    assert torch.cdist(codes[32:], far).min(dim=1).values.max() < 6 * spread
    assert len(codes[32:].unique(dim=0)) == 8


def test_new_codes_of_a_run_are_there_from_the_first_step(
    run: Path, quick: TrainConfig, photos: Path, tmp_path: Path
) -> None:
    """In the first step the learning rate is 0: the old codes are as they were, the new ones among them."""
    spec = {"name": "diveq", "codebook_size": 64, "dead_code_patience": 0}
    plan = train.plan_run(tuned(quick, run, quantizer=spec, warmup=0.5), [photos])
    state = train.begin_run(plan)
    assert not state.quantizing
    steps = train.train(plan, state, tmp_path)
    next(steps)
    steps.close()
    found, old = codes_of(load_checkpoint(tmp_path).quantizer), codes_of(load_checkpoint(run).quantizer)
    assert same_bits(found[:32], old)
    assert found.isfinite().all()
    spread = old.std()
    assert torch.cdist(found[32:], old).min(dim=1).values.max() < 4 * spread


def test_every_rank_has_the_new_codes_of_the_first(run: Path, begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = torch.arange(160.0).reshape(40, 4)
    monkeypatch.setattr(dead_codes, "from_first_rank", lambda mine: drawn if mine.ndim == 2 else mine)
    quantizer = begin(run, quantizer={"name": "diveq", "codebook_size": 40}).model.quantizer
    place_code_vectors(quantizer, torch.randn(500, 4))
    assert torch.equal(codes_of(quantizer)[32:], drawn[32:])


def test_averages_of_new_codes_start_there(run: Path, begin: Begin) -> None:
    quantizer = begin(run, quantizer={"name": "ema", "codebook_size": 40}).model.quantizer
    place_code_vectors(quantizer, torch.randn(500, 4))
    averages = quantizer.averages
    assert isinstance(averages, MovingAverages)
    assert torch.equal(averages.sums, codes_of(quantizer))
    assert averages.sums.isfinite().all()
    assert torch.equal(averages.counts, torch.ones(40))


def test_stages_grow_on_what_they_see(tmp_path: Path, begin: Begin) -> None:
    stage = {"name": "diveq", "codebook_size": 16}
    untrained({"name": "residual", "stages": [stage, stage]}, tmp_path / "c")
    larger = {"name": "diveq", "codebook_size": 24}
    quantizer = begin(tmp_path / "c", quantizer={"name": "residual", "stages": [stage, larger]}).model.quantizer
    first, second = quantizer.parts  # type: ignore[union-attr, operator, misc]
    kept, old = codes_of(first), codes_of(second)[:16].clone()
    z = 10 + torch.randn(400, 4)
    place_code_vectors(quantizer, z)
    assert torch.equal(codes_of(first), kept), "a stage that has all of its codes keeps them"
    assert torch.equal(codes_of(second)[:16], old)
    left = z - first.decode(first.encode(z))
    assert torch.cdist(codes_of(second)[16:], left).min(dim=1).values.max() < 6 * 0.01 * left.std()


@pytest.mark.parametrize("spec", ["residual(2*diveq)", "product(2*ema)", "residual(diveq, product(2*ste))"])
def test_all_stages_grow(tmp_path: Path, begin: Begin, spec: str) -> None:
    small, large = ({**quantizers.read_spec(spec), "codebook_size": size} for size in (16, 20))
    source = untrained(small, tmp_path / "c")
    state = begin(tmp_path / "c", quantizer=large)
    assert not state.quantizing
    place_code_vectors(state.model.quantizer, torch.randn(300, 4))
    assert set(state.model.codebook_sizes) == {20}
    olds, news = source.state_dict(), state.model.state_dict()
    tables = [name for name in olds if name.endswith("table.weight")]
    assert tables
    for name in tables:
        assert same_bits(news[name][:16], olds[name])
        assert news[name].isfinite().all()


def test_normalized_codes_grow_on_the_sphere(tmp_path: Path, begin: Begin) -> None:
    spec = {"name": "diveq", "normalize": "sphere", "codebook_size": 16}
    untrained(spec, tmp_path / "c")
    quantizer = begin(tmp_path / "c", quantizer={**spec, "codebook_size": 20}).model.quantizer
    place_code_vectors(quantizer, 7 * torch.randn(300, 4))
    assert codes_of(quantizer).norm(dim=1) == pytest.approx(1)
    assert quantizer.table.weight.detach()[16:].norm(dim=1) == pytest.approx(1, abs=0.1)  # type: ignore[union-attr]


FROZEN = [
    (("encoder",), "diveq"),
    (("decoder",), "diveq"),
    (("codebook",), "diveq(dead_code_patience=1)"),
    (("codebook",), "ema(dead_code_patience=1)"),
    (("codebook",), "rotation(update=ema)"),
    (("codebook",), "ste(learn_beta=true)"),
    (("codebook", "encoder"), "ema(dead_code_patience=1)"),
    (("codebook", "encoder"), "gumbel"),
    (("decoder", "encoder"), "ema(dead_code_patience=1)"),
    (("decoder", "encoder"), "diveq"),
]


@pytest.mark.parametrize(("frozen", "spec"), FROZEN)
def test_what_is_frozen_stays_to_the_last_bit(
    run: Path, quick: TrainConfig, photos: Path, tmp_path: Path, frozen: tuple[str, ...], spec: str
) -> None:
    before = load_checkpoint(run)
    config = tuned(quick, run, quantizer={**quantizers.read_spec(spec), "codebook_size": 32}, freeze=frozen, steps=6)
    whole_run(config, photos, tmp_path)
    after = load_checkpoint(tmp_path)
    parts = {"encoder": "encoder", "decoder": "decoder", "codebook": "quantizer"}
    kept = {parts[name] for name in frozen}
    assert unequal(before, after) == {*parts.values()} - kept
    assert describe_checkpoint(tmp_path).training["settings"]["freeze"] == list(frozen)
    assert describe_checkpoint(tmp_path).training["settings"]["init_from"] == str(run)


def test_tokens_stay_when_only_the_decoder_learns(run: Path, quick: TrainConfig, photos: Path, tmp_path: Path) -> None:
    whole_run(tuned(quick, run, freeze=("encoder", "codebook")), photos, tmp_path)
    images = torch.rand(4, 3, 64, 48) * 2 - 1
    before, after = load_checkpoint(run), load_checkpoint(tmp_path)
    tokens = before.encode(images)
    assert torch.equal(after.encode(images), tokens)
    assert not torch.equal(after.decode(tokens), before.decode(tokens))


def test_fsq_frozen_keeps_its_maps(quick: TrainConfig, photos: Path, tmp_path: Path) -> None:
    spec = {"name": "fsq", "codebook_size": 16}
    before = untrained(spec, tmp_path / "c")
    whole_run(tuned(quick, tmp_path / "c", quantizer=spec, freeze=("codebook",), steps=4), photos, tmp_path / "r")
    assert unequal(before, load_checkpoint(tmp_path / "r")) == {"encoder", "decoder"}


def test_new_codes_stay_where_they_start_when_codes_are_frozen(
    run: Path, quick: TrainConfig, photos: Path, tmp_path: Path
) -> None:
    spec = {"name": "diveq", "codebook_size": 40}
    plan = train.plan_run(tuned(quick, run, quantizer=spec, freeze=("codebook",)), [photos])
    state = train.begin_run(plan)
    steps = train.train(plan, state, tmp_path)
    next(steps)
    placed = codes_of(state.model.quantizer).clone()
    list(steps)
    assert same_bits(placed[:32], codes_of(load_checkpoint(run).quantizer))
    assert same_bits(codes_of(load_checkpoint(tmp_path).quantizer), placed)


def test_a_frozen_encoder_and_a_batch_in_parts(run: Path, quick: TrainConfig, photos: Path, tmp_path: Path) -> None:
    config = tuned(quick, run, freeze=("encoder",), grad_accum=2, batch_size=4, steps=2)
    state, _ = whole_run(config, photos, tmp_path)
    assert state.skipped == 0
    assert "encoder" not in unequal(load_checkpoint(run), load_checkpoint(tmp_path))


def test_the_average_of_equal_weights_keeps_the_sign_of_zero(run: Path, begin: Begin) -> None:
    state = begin(run, freeze=("encoder", "codebook"))
    with torch.no_grad():
        for model in (state.model, state.ema):
            next(model.encoder.parameters()).fill_(-0.0)
            next(model.quantizer.parameters())[0] = -0.0
    for decay in (0.18, 0.995):
        update_ema(state.ema, state.model, decay)
    assert unequal(state.model, state.ema) == set()


def test_resume_is_exact_and_needs_the_checkpoint_no_more(
    run: Path, quick: TrainConfig, photos: Path, tmp_path: Path
) -> None:
    shutil.copytree(run, tmp_path / "c")
    spec = {"name": "ema", "codebook_size": 40, "dead_code_patience": 2}
    config = tuned(quick, tmp_path / "c", quantizer=spec, freeze=("encoder",))
    whole, _ = whole_run(config, photos, tmp_path / "whole")
    plan = train.plan_run(config, [photos])
    steps = train.train(plan, train.begin_run(plan), tmp_path / "parts")
    assert list(islice(steps, 5))[-1].step == 5
    steps.close()
    shutil.rmtree(tmp_path / "c")
    saved, faults = train.read_newest_state(tmp_path / "parts")
    assert faults == []
    assert saved.config == plan.config
    resumed = train.resume_run(train.plan_run(saved.config, [photos]), saved)
    list(train.train(plan, resumed, tmp_path / "parts"))
    first, second = everything(whole), everything(resumed)
    assert first.keys() == second.keys()
    assert all(same_bits(value, second[name]) for name, value in first.items())
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        train.begin_run(plan)


def test_settings_of_a_library_s_user(run: Path, begin: Begin) -> None:
    found = init_settings(run, {"steps": 3, "quantizer": {"noise_std": 0.1}})
    assert found["network"]["widths"] == (32, 32)
    assert (found["quantizer"]["codebook_size"], found["quantizer"]["noise_std"]) == (32, 0.1)
    assert init_settings(run, {"network": 3}) == {"network": 3, "quantizer": load_checkpoint(run).quantizer.spec}
    with pytest.raises(ConfigError) as error:
        begin(run, network=dataclasses.replace(TINY, latent_dim=6), quantizer={"name": "diveq", "codebook_size": 16})
    assert str(error.value) == (
        f"cannot start from {run} with other settings: network.latent_dim is 4 there, now 6; quantizer.codebook_size "
        "is 32 there, now 16, which is fewer: leave them out"
    )
