"""Settings of new runs and of those that go on, and all that can be wrong with them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from tokenizer import train
from tokenizer.config import PRESETS, NetworkConfig, TrainConfig, to_dict
from tokenizer.errors import ConfigError, InputError
from tokenizer.quantizers import METHODS, resolve_spec
from tokenizer.train import new_settings, resumed_settings


def faults(given: dict[str, Any]) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        new_settings(given)
    assert str(caught.value) == "; ".join(caught.value.faults)
    return caught.value.faults


def test_nothing_given_is_the_defaults() -> None:
    assert new_settings({}) == TrainConfig()
    assert new_settings(TrainConfig()) == TrainConfig()


def test_a_preset_lies_below_what_is_given() -> None:
    found = new_settings({"preset": "small", "network": {"downsample": 8, "latent_dim": 5}}).network
    assert found == NetworkConfig(8, *PRESETS["small"][8], latent_dim=5)
    assert new_settings({"network": {"downsample": 32}}).network == NetworkConfig(32, *PRESETS["tiny"][32])


def test_codebooks_are_stages() -> None:
    found = new_settings({"quantizer": {"name": "ste(beta=1)", "codebook_size": 64, "codebooks": 2}}).quantizer
    assert [stage["codebook_size"] for stage in resolve_spec(found)["stages"]] == [64, 64]


def test_four_unknown_names_in_one_error() -> None:
    given = {"lrr": 1, "stepz": 2, "quantizer": {"bta": 2}, "loss": {"foo": 1}}
    assert faults(given) == (
        "unknown setting 'lrr', did you mean 'lr'?",
        "unknown setting 'stepz', did you mean 'steps'?",
        "unknown setting 'loss.foo', known: l1, l2, log_l2, multiscale, frequency, perceptual, adversarial",
        f"unknown setting 'quantizer.bta' of diveq, known: {', '.join(METHODS['diveq'].options)}",
    )


def test_types_values_presets_colors_and_stages_together() -> None:
    given = {
        "preset": "smal",
        "lr": "fast",
        "warmup": 2,
        "alpha": "glass",
        "steps": 1,
        "minutes": 1,
        "network": {"widht": 3, "depths": "x"},
        "quantizer": {"name": "residual(ste(bta=1), fsq(levels=x))"},
        "loss": {"l2": "x", "l3": 1},
    }
    assert set(faults(given)) == {
        "unknown preset 'smal', did you mean 'small'?",
        "lr is 'fast', expected a number",
        "warmup is 2.0, expected 0 or more and less than 1",
        "'glass' is not a color: pass a name such as white, or #rrggbb",
        "steps and minutes are both given: name one budget",
        "unknown setting 'network.widht', did you mean 'widths'?",
        "network.depths is 'x', expected a list, each a whole number",
        "unknown setting 'quantizer.bta' of ste, did you mean 'beta'?",
        "quantizer.levels is 'x', expected a list, each a whole number",
        "loss.l2 is 'x', expected a number",
        "unknown setting 'loss.l3', did you mean 'l2'?",
    }


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"quantizer": {"codebook_size": -5}, "lr": 0}, ["lr is 0.0", "codebook_size -5, expected 1 or more"]),
        ({"quantizer": {"name": "diveq("}, "lr": 0}, ["is not of the form NAME(", "lr is 0.0"]),
        ({"quantizer": {"codebooks": 900}, "lr": 0}, ["quantizer.codebooks is 900", "lr is 0.0"]),
        ({"quantizer": {"name": "dived"}, "lr": 0}, ["lr is 0.0", "unknown quantizer 'dived'"]),
        ({"quantizer": 3, "network": 3}, ["network is 3", "quantizer is 3"]),
        ({"preset": 3, "init_from": 3}, ["init_from is 3", "preset is 3"]),
        ({"image_size": 36, "network": {"downsample": 4}, "quantizer": {"name": "multiscale(2*ste)"}, "seed": -1},
         ["image_size is 36, expected a multiple of 8", "seed is -1"]),
        ({"image_size": 8, "network": {"downsample": 4}, "loss": {"adversarial": 1, "l1": 1}, "seed": -1},
         ["image_size is 8, the loss takes 24", "seed is -1"]),
        ({"image_size": 30, "network": {"downsample": "x"}}, ["network.downsample is 'x'"]),
        ({"network": {"downsampel": 8, "widths": [8, 8]}}, ["unknown setting 'network.downsampel'"]),
        ({"freeze": ["encoder"], "init_form": "run"}, ["unknown setting 'init_form'"]),
    ],
)  # fmt: skip
def test_each_is_told_beside_others_and_nothing_that_follows_from_it(given: dict[str, Any], found: list[str]) -> None:
    told = faults(given)
    assert len(told) == len(found)
    assert all(any(part in fault for fault in told) for part in found)


def test_old_names_are_refused_with_the_new_ones() -> None:
    assert faults({"revive_until": 0.5}) == ("unknown setting 'revive_until': it is called replace_dead_until now",)
    assert faults({"quantizer": {"name": "ste(normalise=rms, revival_patience=9)"}}) == (
        "unknown setting 'quantizer.normalise' of ste: it is called normalize now",
        "unknown setting 'quantizer.revival_patience' of ste: it is called dead_code_patience now",
    )
    (residual,) = faults({"quantizer": {"name": "residual(2*ste(normalise=rms))"}})
    assert residual == "unknown setting 'quantizer.normalise' of ste: it is called normalize now"


def test_from_a_checkpoint_all_at_once(run: Path) -> None:
    given = {"init_from": str(run), "lr": "x", "network": {"latent_dim": 6, "widht": 1}, "quantizer": {"noise_sdt": 1}}
    assert set(faults(given)) == {
        "lr is 'x', expected a number",
        "unknown setting 'network.widht', did you mean 'widths'?",
        f"cannot start from {run} with other settings: network.latent_dim is 4 there, now 6: leave them out",
        "unknown setting 'quantizer.noise_sdt' of diveq, did you mean 'noise_std'?",
    }


@pytest.fixture
def saved(run: Path) -> TrainConfig:
    return train.read_newest_state(run)[0].config


def test_what_a_run_began_with_can_be_given_again(saved: TrainConfig, photos: Path) -> None:
    assert resumed_settings(saved, {}) == saved
    assert resumed_settings(saved, saved) == saved
    given = {"steps": 12, "precision": "auto", "quantizer": {"codebook_size": "32"}, "network": {"widths": "32 32"}}
    assert resumed_settings(saved, given) == saved
    wider = train.plan_run(dataclasses.replace(saved, quantizer={"name": "lfq", "codebook_size": 64}), [photos]).config
    assert wider.network.latent_dim > 4
    assert resumed_settings(wider, {"network": {"latent_dim": 4}, "quantizer": {"name": "lfq"}}) == wider
    other = train.plan_run(dataclasses.replace(saved, val_data=str(photos / "a"), val_images=99), [photos]).config
    assert other.val_images == 8
    assert resumed_settings(other, {"val_data": str(photos / "a"), "val_images": 99}) == other


def test_what_changes_no_result_may_differ(saved: TrainConfig) -> None:
    assert resumed_settings(saved, {"workers": 3, "log_every": 7}) == dataclasses.replace(saved, workers=3, log_every=7)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"steps": 9, "seed": 0}, "steps was 12, now 9: leave them out"),
        ({"quantizer": {"name": "ste"}}, "quantizer.name was diveq, now ste"),
        ({"quantizer": {"codebooks": 2}}, "quantizer.name was diveq, now residual"),
    ],
)
def test_what_changes_results_may_not(saved: TrainConfig, given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        resumed_settings(saved, given)
    assert message in str(caught.value)


def test_an_option_that_stages_share_may_not_either(saved: TrainConfig, photos: Path) -> None:
    two = train.plan_run(
        dataclasses.replace(saved, quantizer={"name": "residual(2*diveq)", "codebook_size": 32}), [photos]
    )
    assert resumed_settings(two.config, {"quantizer": {"codebook_size": 32}}) == two.config
    with pytest.raises(InputError, match=r"quantizer\.stages\.0\.codebook_size was 32, now 64"):
        resumed_settings(two.config, {"quantizer": {"codebook_size": 64}})


def test_faults_of_a_resumed_run_together(saved: TrainConfig) -> None:
    with pytest.raises(ConfigError) as caught:
        resumed_settings(saved, {"workes": 1, "keep": "x", "quantizer": {"noise": 1}, "loss": {"l3": 1}})
    assert caught.value.faults == (
        "unknown setting 'workes', did you mean 'workers'?",
        "keep is 'x', expected a whole number",
        "unknown setting 'quantizer.noise' of diveq, did you mean 'noise_std'?",
        "unknown setting 'loss.l3', did you mean 'l2'?",
    )
    assert to_dict(saved)["keep"] == 2
