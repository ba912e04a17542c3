"""Which quantizer can start from which: specs over specs, and what does not fit."""

from __future__ import annotations

from typing import Any

import pytest

from tokenizer.errors import ConfigError
from tokenizer.quantizers import read_spec, resolve_spec, short_spec
from tokenizer.train.lineage import inherit_spec, misfitting_settings


def spec(text: str) -> dict[str, Any]:
    return resolve_spec(read_spec(text))


@pytest.mark.parametrize(
    ("before", "given", "wanted"),
    [
        ("diveq(codebook_size=32, noise_std=0.1)", {}, "diveq(codebook_size=32, noise_std=0.1)"),
        ("diveq(codebook_size=32)", {"codebook_size": "64"}, "diveq(codebook_size=64)"),
        (
            "ste(codebook_size=32, beta=1, dead_code_patience=9)",
            {"name": "ema"},
            "ema(codebook_size=32, dead_code_patience=9)",
        ),
        ("ste(codebook_size=32)", {"name": "ema(decay=0.9)"}, "ema(decay=0.9, codebook_size=32)"),
        ("sf-diveq(codebook_size=9, points=3)", {"name": "sfvq"}, "sfvq(codebook_size=9, points=3)"),
        ("diveq(codebook_size=32)", {"name": "fsq"}, "fsq(codebook_size=32)"),
        (
            "residual(2*diveq(codebook_size=8), drop=0.5)",
            {"codebook_size": 16, "drop": 0},
            "residual(2*diveq(codebook_size=16))",
        ),
        (
            "residual(diveq(codebook_size=8), fsq(codebook_size=16))",
            {"noise_std": 0.1},
            "residual(diveq(noise_std=0.1, codebook_size=8), fsq(codebook_size=16))",
        ),
        (
            "residual(2*diveq(codebook_size=8))",
            {"name": "residual(2*ema)"},
            "residual(2*ema(codebook_size=8))",
        ),
        (
            "residual(2*diveq(codebook_size=8))",
            {"name": "residual", "stages": [{}, {"codebook_size": 9}]},
            "residual(diveq(codebook_size=8), diveq(codebook_size=9))",
        ),
        (
            "product(2*residual(2*ste(codebook_size=8)))",
            {"beta": 1},
            "product(2*residual(2*ste(beta=1, codebook_size=8)))",
        ),
        # What --codebooks writes says nothing of the method.
        ("ema", {"name": "residual", "stages": [{}] * 3}, "residual(3*ema)"),
        ("residual(2*ema)", {"name": "residual", "stages": [{}] * 3}, "residual(3*ema)"),
    ],
)
def test_what_is_given_lies_over_what_was(before: str, given: dict[str, Any], wanted: str) -> None:
    assert short_spec(inherit_spec(spec(before), given)) == short_spec(spec(wanted))


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"name": "divek"}, "unknown quantizer 'divek', did you mean 'diveq'?"),
        ({"noise": 1}, "unknown setting 'quantizer.noise' of residual"),
        ({"stages": 7}, "quantizer.stages is 7, expected a list"),
    ],
)
def test_what_no_quantizer_has(given: dict[str, Any], fault: str) -> None:
    with pytest.raises(ConfigError) as error:
        inherit_spec(spec("residual(2*diveq)"), given)
    assert str(error.value).startswith(fault)


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ("diveq", "diveq(noise_std=0.5, dead_code_patience=0)"),
        ("diveq", "ibq"),
        ("ste(normalize=rms)", "gumbel(normalize=rms)"),
        ("diveq(codebook_size=8)", "ema(codebook_size=9)"),
        ("sf-diveq(codebook_size=9, points=3)", "sfvq(codebook_size=9, points=3)"),
        ("lfq", "lfq(entropy_weight=1)"),
        ("residual(2*diveq(codebook_size=8))", "residual(ste(codebook_size=8), ema(codebook_size=9), drop=0.5)"),
        ("product(2*residual(2*diveq(codebook_size=8)))", "product(2*residual(2*diveq(codebook_size=9)))"),
        ("multiscale(2*diveq)", "multiscale(2*ema)"),
    ],
)
def test_fits(before: str, now: str) -> None:
    assert misfitting_settings(spec(before), spec(now)) == []


@pytest.mark.parametrize(
    ("before", "now", "faults"),
    [
        ("fsq", "diveq", ["name is fsq there, now diveq, whose codes are of another kind"]),
        ("lfq", "bsq", ["name is lfq there, now bsq, whose codes are of another kind"]),
        ("diveq", "sf-diveq", ["name is diveq there, now sf-diveq, whose codes are of another kind"]),
        ("diveq", "residual(2*diveq)", ["name is diveq there, now residual, whose codes are of another kind"]),
        ("diveq(codebook_size=8)", "diveq(codebook_size=7)", ["codebook_size is 8 there, now 7, which is fewer"]),
        (
            "diveq",
            "diveq(transform=bridge, normalize=rms)",
            ["transform is none there, now bridge", "normalize is none there, now rms"],
        ),
        (
            "sf-diveq(codebook_size=8)",
            "sf-diveq(codebook_size=9, points=2)",
            ["points is 1 there, now 2", "codebook_size is 8 there, now 9, to which none can be added"],
        ),
        ("fsq(codebook_size=256)", "fsq(codebook_size=1024)", ["codebook_size is 256 there, now 1024"]),
        ("fsq", "fsq(learn_step=true)", ["learn_step is False there, now True"]),
        (
            "multiscale(2*diveq(codebook_size=8))",
            "multiscale(2*diveq(codebook_size=9))",
            [f"stages.{n}.codebook_size is 8 there, now 9, to which none can be added" for n in (0, 1)],
        ),
        ("multiscale(diveq)", "multiscale(diveq, scales=1 4)", ["scales is (1, 2) there, now (1, 4)"]),
        (
            "residual(diveq, fsq)",
            "residual(diveq, diveq)",
            ["stages.1.name is fsq there, now diveq, whose codes are of another kind"],
        ),
    ],
)
def test_does_not_fit(before: str, now: str, faults: list[str]) -> None:
    assert misfitting_settings(spec(before), spec(now)) == [f"quantizer.{fault}" for fault in faults]


def test_another_number_of_stages() -> None:
    found = misfitting_settings(spec("residual(2*diveq)"), spec("residual(3*diveq)"))
    assert found == ["quantizer has 2 stages there, now 3"]
