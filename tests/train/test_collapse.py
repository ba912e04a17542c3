"""When a run says that its codebook dies, and what it says to try."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tokenizer import quantizers, train
from tokenizer.config import TrainConfig
from tokenizer.train.collapse import CollapseWatch
from tokenizer.train.metrics_log import Meter


def watch(spec: str = "ste", **settings: object) -> CollapseWatch:
    quantizer = quantizers.resolve_spec(quantizers.read_spec(spec))
    config = dataclasses.replace(TrainConfig(), quantizer=quantizer, **settings)  # type: ignore[arg-type]
    return CollapseWatch(config, quantizers.build_quantizer(quantizer, 16).sizes)


def counts(*tokens: int) -> Tensor:
    """How often each of 1024 codes was chosen in each slot, of that many tokens."""
    return torch.cat([torch.nn.functional.one_hot(torch.tensor(0), 1024) * count for count in tokens])


def test_below_two_percent_of_the_codes_it_says_so_once() -> None:
    many = counts(100_000)
    collapse = watch(quantize_after=0.2)
    assert collapse.warning(0.9, 20.6, many) is None
    said = collapse.warning(0.9, 20.4, many)
    assert said is not None
    assert said.startswith("the codebook collapses: perplexity 20.4 of 1024 codes over the last 100000 positions. Try ")
    assert collapse.warning(0.95, 1.0, many) is None


def test_codes_that_were_just_placed_have_time() -> None:
    for quantize_after, first in ((0.0, 0.1), (0.2, 0.28), (0.95, 0.955)):
        assert watch(quantize_after=quantize_after).warning(first - 0.001, 1.0, counts(9999)) is None
        assert watch(quantize_after=quantize_after).warning(first + 0.001, 1.0, counts(9999))


def test_few_positions_cannot_use_many_codes() -> None:
    assert watch().warning(0.9, 3.0, counts(100)) is None
    assert watch().warning(0.9, 1.9, counts(100))
    assert watch().warning(0.9, 1.0, counts(0)) is None


def test_a_small_codebook_collapses_to_a_single_code() -> None:
    small = watch("ste(codebook_size=8)")
    assert small.warning(0.9, 1.2, counts(9999)) is None
    assert small.warning(0.9, 1.05, counts(9999))


def test_slots_count_by_their_mean_size() -> None:
    two = watch("product(ste(codebook_size=1024), ste(codebook_size=64))")
    assert two.warning(0.9, 5.2, counts(5000, 5000)) is None
    assert "of 256 codes over the last 5000 positions" in (two.warning(0.9, 5.0, counts(5000, 5000)) or "")


@pytest.mark.parametrize(
    ("spec", "settings", "tried", "not_tried"),
    [
        (
            "ste",
            {"quantize_after": 0.2},
            ["--lr 0.0005", "normalize=rms", "transform=linear", "--codebook-size"],
            ["dead-code replacement", "k-means"],
        ),
        ("ste(dead_code_patience=0)", {"quantize_after": 0.0}, ["dead_code_patience=50", "quantize_after=0.2"], []),
        ("residual(2*ste(transform=linear))", {}, ["--lr"], ["transform", "normalize"]),
        ("lfq", {}, ["--lr", "--quantizer diveq"], ["transform", "dead-code replacement"]),
        ("diveq", {}, ["a smaller --codebook-size"], ["--quantizer"]),
    ],
)
def test_only_what_can_be_tried_is_named(
    spec: str, settings: dict[str, float], tried: list[str], not_tried: list[str]
) -> None:
    said = watch(spec, **settings).warning(0.9, 1.0, counts(99_999)) or ""
    assert all(word in said for word in tried), said
    assert not any(word in said for word in not_tried), said


def test_a_run_says_it(quick: TrainConfig, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Meter.report
    monkeypatch.setattr(Meter, "report", lambda meter: {**plain(meter), "perplexity": 1.0})
    plan = train.plan_run(dataclasses.replace(quick, log_every=1), [photos])
    said = {step.step: step.warning for step in train.train(plan, train.begin_run(plan), tmp_path) if step.warning}
    # Codes are in use from the fourth of twelve steps on; a tenth of the rest later it counts.
    assert list(said) == [5]
    assert "the codebook collapses" in said[5]
