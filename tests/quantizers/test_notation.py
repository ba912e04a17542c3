"""Quantizers on one line: reading, writing, and what is said of lines that mean nothing."""

from __future__ import annotations

from typing import Any

import pytest

from tokenizer.errors import ConfigError
from tokenizer.quantizers import read_spec, resolve_spec, short_spec, split_specs, write_spec

SPECS: list[tuple[str, dict[str, Any]]] = [
    ("diveq", {"name": "diveq"}),
    ("diveq(noise_std=0.01)", {"name": "diveq", "noise_std": "0.01"}),
    ("fsq(levels=8 5 5)", {"name": "fsq", "levels": "8 5 5"}),
    ("residual(2*diveq)", {"name": "residual", "stages": [{"name": "diveq"}] * 2}),
    ("residual(ste, ema)", {"name": "residual", "stages": [{"name": "ste"}, {"name": "ema"}]}),
    (
        "residual(3*diveq(noise_std=0.1), product(2*ste), drop=0.5)",
        {
            "name": "residual",
            "stages": [{"name": "diveq", "noise_std": "0.1"}] * 3
            + [{"name": "product", "stages": [{"name": "ste"}] * 2}],
            "drop": "0.5",
        },
    ),
    (
        "multiscale(2*residual(2*ste(beta=1)), scales=1 2)",
        {
            "name": "multiscale",
            "stages": [{"name": "residual", "stages": [{"name": "ste", "beta": "1"}] * 2}] * 2,
            "scales": "1 2",
        },
    ),
]


@pytest.mark.parametrize(("text", "spec"), SPECS)
def test_reading_and_writing_are_inverse(text: str, spec: dict[str, Any]) -> None:
    assert read_spec(text) == spec
    assert write_spec(spec) == text


@pytest.mark.parametrize("text", [" diveq ", "diveq()", "diveq( )", "diveq ()"])
def test_space_and_empty_brackets_mean_nothing(text: str) -> None:
    assert read_spec(text) == {"name": "diveq"}


def test_space_around_stages_and_options_means_nothing() -> None:
    assert read_spec("residual( 2 * ste ,drop = 0.5, ema )") == read_spec("residual(2*ste, ema, drop=0.5)")


def test_options_may_stand_before_stages() -> None:
    assert read_spec("residual(drop=1, 2*ste)") == read_spec("residual(2*ste, drop=1)")


def test_values_are_written_as_they_are_read() -> None:
    spec = {"name": "x", "levels": (8, 5), "scales": [1, 2], "learn": True, "beta": 0.25, "mode": "loss"}
    assert write_spec(spec) == "x(levels=8 5, scales=1 2, learn=True, beta=0.25, mode=loss)"


def test_equal_neighbors_are_written_once_with_their_number() -> None:
    stages = [{"name": name} for name in ("ste", "ste", "ema", "ste")]
    assert write_spec({"name": "residual", "stages": stages}) == "residual(2*ste, ema, ste)"


def test_split_leaves_commas_in_brackets_alone() -> None:
    assert split_specs("a, b(c, d(e, f)), , g ") == ["a", "b(c, d(e, f))", "g"]
    assert split_specs("") == []


@pytest.mark.parametrize("text", ["a(b", "a)b", ")(", "a(b))", "((a)"])
def test_brackets_that_do_not_match_are_named(text: str) -> None:
    with pytest.raises(ConfigError, match="do not match"):
        split_specs(text)


@pytest.mark.parametrize("text", ["residual(2*diveq", "residual(2*diveq) x", "(diveq)", "re sidual(diveq)", "a(b)c(d)"])
def test_what_is_not_of_the_form_says_what_the_form_is(text: str) -> None:
    with pytest.raises(ConfigError, match=r"NAME\(STAGE, ..., KEY=VALUE, ...\)|do not match"):
        read_spec(text)


@pytest.mark.parametrize("text", ["residual(2*diveq))", "residual((diveq)", "residual(2*ste(beta=1, drop=0.5)"])
def test_inner_brackets_that_do_not_match_are_named(text: str) -> None:
    with pytest.raises(ConfigError, match="do not match"):
        read_spec(text)


@pytest.mark.parametrize(
    "text", ["residual(0*diveq)", "residual(-1*diveq)", "residual(²*diveq)", "residual(2*)", "3*diveq"]
)
def test_a_number_that_is_none_is_an_unknown_name(text: str) -> None:
    with pytest.raises(ConfigError, match="unknown quantizer"):
        resolve_spec(read_spec(text))


@pytest.mark.parametrize(
    "text",
    [
        "diveq",
        "diveq(codebook_size=64, noise_std=0.01)",
        "gumbel(noise=False, top_k=4)",
        "rotation(update=ema)",
        "residual(3*diveq)",
        "residual(product(2*ste(beta=1.0)), ema, drop=0.5)",
        "multiscale(diveq, scales=1 2 4)",
    ],
)
def test_short_keeps_what_is_no_default_and_resolves_to_the_same(text: str) -> None:
    spec = resolve_spec(read_spec(text))
    assert short_spec(spec) == text
    assert short_spec(read_spec(text)) == text
    assert resolve_spec(read_spec(write_spec(spec))) == spec


def test_short_leaves_defaults_out_but_for_those_it_is_told() -> None:
    spec = read_spec("residual(2*diveq(noise_std=0.001, codebook_size=1024), drop=0)")
    assert short_spec(spec) == "residual(2*diveq)"
    assert short_spec(spec, ["noise_std"]) == "residual(2*diveq(noise_std=0.001))"
