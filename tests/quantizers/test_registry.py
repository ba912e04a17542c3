from __future__ import annotations

import pytest

from tokenizer.errors import ConfigError
from tokenizer.quantizers import METHODS, build, register, resolve
from tokenizer.quantizers.diveq import DiVeQ


def test_defaults_come_from_the_constructor() -> None:
    assert resolve({"name": "diveq"}) == {
        "name": "diveq",
        "codebook_size": 1024,
        "noise_std": 1e-3,
        "revival_patience": 50,
    }


def test_options_are_coerced_and_all_faults_named() -> None:
    assert resolve({"name": "diveq", "noise_std": "1e-2", "codebook_size": "64"})["noise_std"] == 0.01
    with pytest.raises(ConfigError) as caught:
        resolve({"name": "diveq", "codebok_size": 3, "noise_std": "much"})
    assert "did you mean 'codebook_size'?" in str(caught.value)
    assert "quantizer.noise_std is 'much', expected a number" in str(caught.value)


def test_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(ConfigError, match="unknown quantizer 'divq', did you mean 'diveq'"):
        resolve({"name": "divq"})
    with pytest.raises(ConfigError, match="unknown quantizer 'zzz', known: diveq, diveq-detach"):
        resolve({"name": "zzz"})


def test_a_name_taken_twice_is_an_error() -> None:
    with pytest.raises(ValueError, match="'diveq' is taken by DiVeQ"):
        register("diveq", "again")(DiVeQ)
    assert METHODS["diveq"].cls is DiVeQ


def test_values_out_of_range_are_config_errors() -> None:
    with pytest.raises(ConfigError, match="codebook_size 0"):
        build({"name": "diveq", "codebook_size": 0}, 4)
