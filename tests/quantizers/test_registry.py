from __future__ import annotations

from typing import Any

import pytest

from tokenizer.errors import ConfigError
from tokenizer.quantizers import METHODS, build_quantizer, register, resolve_spec, short_spec
from tokenizer.quantizers.diveq import DiVeQ


def faults(spec: dict[str, Any]) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        resolve_spec(spec)
    return caught.value.faults


def test_defaults_come_from_the_constructor_and_from_the_classes_above() -> None:
    shared = {"codebook_size": 1024, "transform": "none", "normalize": "none", "dead_code_patience": 50}
    assert resolve_spec({"name": "diveq"}) == {"name": "diveq", **shared, "noise_std": 1e-3}
    assert resolve_spec({"name": "ema"}) == {"name": "ema", **shared, "beta": 0.25, "learn_beta": False, "decay": 0.99}
    assert resolve_spec({"name": "sfvq"}) == {
        "name": "sfvq",
        "codebook_size": 1024,
        "points": 1,
        "transform": "none",
        "normalize": "none",
    }


def test_every_method_can_be_built_of_its_name_alone() -> None:
    for name, method in METHODS.items():
        assert type(build_quantizer({"name": name}, 20)) is method.cls
        assert method.summary
        assert "\n" not in method.summary


def test_options_are_coerced_and_all_faults_named() -> None:
    assert resolve_spec({"name": "diveq", "noise_std": "1e-2", "codebook_size": "64"})["noise_std"] == 0.01
    assert resolve_spec({"name": "gumbel", "noise": "no"})["noise"] is False
    assert resolve_spec({"name": "multiscale", "scales": "1 2"})["scales"] == (1, 2)
    found = faults({"name": "diveq", "codebok_size": 3, "noise_std": "much"})
    assert found == (
        "unknown setting 'quantizer.codebok_size' of diveq, did you mean 'codebook_size'?",
        "quantizer.noise_std is 'much', expected a number",
    )
    assert "expected one of none, sphere, rms" in faults({"name": "ste", "normalize": "cube"})[0]


def test_unknown_name_suggests_the_nearest() -> None:
    assert faults({"name": "divq"}) == ("unknown quantizer 'divq', did you mean 'diveq'?",)
    assert faults({"name": "zzz"}) == (f"unknown quantizer 'zzz', known: {', '.join(METHODS)}",)
    assert faults({})[0].startswith("unknown quantizer 'None'")


def test_a_name_taken_twice_is_an_error() -> None:
    with pytest.raises(ValueError, match="'diveq' is taken by DiVeQ"):
        register("diveq", "again")(DiVeQ)
    assert METHODS["diveq"].cls is DiVeQ


def test_values_out_of_range_are_config_errors() -> None:
    with pytest.raises(ConfigError, match="quantizer diveq: dim is 4 and codebook_size 0"):
        build_quantizer({"name": "diveq", "codebook_size": 0}, 4)


def test_a_name_may_hold_options_and_stages() -> None:
    assert resolve_spec({"name": "diveq(noise_std=0.5)"}) == resolve_spec({"name": "diveq", "noise_std": 0.5})
    assert short_spec({"name": "residual(2*diveq)", "drop": 0.5}) == "residual(2*diveq, drop=0.5)"
    assert resolve_spec({"name": "diveq(noise_std=0.5)", "noise_std": 0.1})["noise_std"] == 0.1, (
        "what is given apart wins"
    )


@pytest.mark.parametrize(
    ("text", "options", "wanted"),
    [
        ("residual(2*diveq)", {"codebook_size": 8}, "residual(2*diveq(codebook_size=8))"),
        ("residual", {"codebook_size": 8}, "residual(4*diveq(codebook_size=8))"),
        ("residual(diveq, ste)", {"noise_std": 0.5}, "residual(diveq(noise_std=0.5), ste)"),
        ("residual(ste(beta=1), ste)", {"beta": 2}, "residual(ste(beta=1.0), ste(beta=2.0))"),
        ("residual(product(2*ste), ema)", {"beta": 1}, "residual(product(2*ste(beta=1.0)), ema(beta=1.0))"),
        ("residual(product(2*ste), diveq)", {"noise_std": 0.5}, "residual(product(2*ste), diveq(noise_std=0.5))"),
        ("product(2*residual)", {"drop": 0.5}, "product(2*residual(4*diveq, drop=0.5))"),
        ("residual(2*residual)", {"drop": 0.5}, "residual(2*residual(4*diveq), drop=0.5)"),
    ],
)
def test_an_option_that_a_combinator_lacks_is_one_of_its_stages(
    text: str, options: dict[str, Any], wanted: str
) -> None:
    assert short_spec({"name": text, **options}) == wanted
    pairs = ", ".join(f"{key}={value}" for key, value in options.items())
    written = f"{text[:-1]}, {pairs})" if text.endswith(")") else f"{text}({pairs})"
    assert short_spec({"name": written}) == wanted


def test_an_option_that_no_stage_takes_is_one_fault() -> None:
    known = "known: stages, drop"
    (fault,) = faults({"name": "residual(2*diveq)", "bogus": 1})
    assert fault == f"unknown setting 'quantizer.bogus' of residual, {known}"
    assert faults({"name": "residual(product(2*ste), ema)", "noise_std": 1}) == (
        "unknown setting 'quantizer.noise_std' of residual, known: stages, drop",
    )


def test_the_faults_of_all_stages_are_named_at_once() -> None:
    text = "residual(divq, ste(beta=much), 2*diveq(nose_std=1), product(ema(decay=slow)), dropp=1)"
    assert faults({"name": text}) == (
        "unknown setting 'quantizer.dropp' of residual, did you mean 'drop'?",
        "unknown quantizer 'divq', did you mean 'diveq'?",
        "quantizer.beta is 'much', expected a number",
        "unknown setting 'quantizer.nose_std' of diveq, did you mean 'noise_std'?",
        "quantizer.decay is 'slow', expected a number",
    )


@pytest.mark.parametrize(
    "stages", ["diveq", ["diveq"], 3, [{"name": "product", "stages": "ste"}], [{"name": "product", "stages": 3}]]
)
def test_stages_that_are_no_list_of_tables_are_a_fault(stages: Any) -> None:
    for options in ({}, {"codebook_size": 8}):
        found = faults({"name": "residual", "stages": stages, **options})
        assert any("expected a list, each a table of settings" in fault for fault in found)


def test_the_spec_of_a_combinator_is_that_of_its_stages_now() -> None:
    made = build_quantizer(
        {"name": "residual(diveq(transform=linear), product(2*ste(transform=mlp)))", "codebook_size": 8}, 4
    )
    made.merge_()
    assert short_spec(made.spec) == "residual(diveq(codebook_size=8), product(2*ste(codebook_size=8)))"
