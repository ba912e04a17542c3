"""What is noted of each step: the share of codes reached, time, memory."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.compare.conftest import Prepare
from tokenizer import compare, quantizers, train
from tokenizer.compare import machine
from tokenizer.compare.watch import GradientCoverage, StepWatch, read_watched
from tokenizer.quantizers import Quantized, Quantizer

DIM = 4


class Rounding(Quantizer):
    """A quantizer without a codebook."""

    dim, sizes = DIM, (3,) * DIM

    def encode(self, z: Tensor) -> Tensor:
        return (z.round().clamp(-1, 1) + 1).long()

    def decode(self, tokens: Tensor) -> Tensor:
        return tokens.float() - 1

    def learn(self, z: Tensor) -> Quantized:
        return Quantized(self.decode(self.encode(z)), self.encode(z), torch.zeros(()))


def quantizer(text: str) -> Quantizer:
    torch.manual_seed(1)
    made = quantizers.build_quantizer({**quantizers.read_spec(text), "codebook_size": 64}, DIM).train()
    made.initialize(torch.randn(500, DIM))
    return made


def learn(made: Quantizer, count: int = 20) -> Quantized:
    """Take a step on some latents, as the loop does."""
    latents = torch.randn(count, DIM, generator=torch.Generator().manual_seed(5)).requires_grad_()
    result: Quantized = made(latents)
    (result.vectors.square().sum() + result.loss).backward()
    return result


@pytest.mark.parametrize("name", ["diveq", "ste", "rotation(update=ema)", "ema"])
def test_codes_reached_are_those_chosen(name: str) -> None:
    made = quantizer(name)
    reach = GradientCoverage(made)
    result = learn(made)
    chosen = result.tokens.unique().numel()
    assert 0 < chosen <= 20
    assert reach.share() == pytest.approx(chosen / 64)


@pytest.mark.parametrize("name", ["gumbel", "ibq", "ste(transform=linear)", "ste(transform=mlp)"])
def test_some_methods_reach_all_codes_at_once(name: str) -> None:
    made = quantizer(name)
    reach = GradientCoverage(made)
    assert reach.share() == 0
    learn(made)
    assert reach.share() == 1


def test_revived_codes_are_not_reached() -> None:
    made = quantizer("ema(dead_code_patience=1)")
    reach = GradientCoverage(made)
    result = learn(made)
    assert int(made.replace_dead_codes()[0].rows.sum()) > 30
    assert reach.share() == pytest.approx(result.tokens.unique().numel() / 64)


def test_several_codebooks_count_alike() -> None:
    made = quantizer("residual(ste, ema)")
    reach = GradientCoverage(made)
    tokens = learn(made).tokens
    shares = [tokens[:, slot].unique().numel() / 64 for slot in range(2)]
    assert reach.share() == pytest.approx(sum(shares) / 2)


def test_without_a_codebook_there_is_no_share() -> None:
    assert GradientCoverage(Rounding()).share() is None


def test_evaluation_is_no_step_and_the_hook_goes() -> None:
    made = quantizer("ema")
    reach = GradientCoverage(made)
    learn(made)
    before = reach.share()
    made.eval()(torch.randn(400, DIM))
    assert reach.share() == before
    reach.close()
    learn(made.train(), 300)
    assert reach.share() == before


def test_notes_of_all_sessions_are_kept(prepare: Prepare, tmp_path: Path) -> None:
    entry = prepare(tmp_path, ["diveq"]).entries[0]
    steps = compare.train_entry(entry)
    list(islice(steps, 7))
    steps.close()
    list(compare.train_entry(entry))
    lines = [json.loads(line) for line in (entry.folder / "metrics.jsonl").read_text().splitlines()]
    noted = [line["step"] for line in lines if line.get("watched", {}).get("reached") is not None]
    assert noted == [step for step in range(1, 13) if step >= 4]  # codes are in use from step 4 on
    _, figures = read_watched(entry.folder)
    shares = [line["watched"]["reached"] for line in lines if line.get("watched", {}).get("reached") is not None]
    assert figures["reached"] == pytest.approx(sum(shares) / len(shares))
    timed = [line["watched"]["wall"] for line in lines if "watched" in line]
    evaluated = {line["step"] for line in lines if "validation" in line} - {12}  # that one comes after the last step
    # Of the nine steps with codes, but the first, which places them, and those that evaluate; one may be the first of
    # the second session.
    assert sum(map(len, timed)) == 9 - len(evaluated | {4})
    assert 0 < figures["seconds_per_step"] < 10


def test_a_long_run_is_sampled_at_every_twentieth_step(prepare: Prepare, tmp_path: Path) -> None:
    entry = prepare(tmp_path, ["diveq"]).entries[0]
    state = train.begin_run(entry.plan)
    state.quantizing = True
    steps = [train.Step(step, step / 100, 0.0, figures={"loss": 1.0}) for step in range(1, 101)]

    def taken() -> object:
        for step in steps:
            state.step = step.step
            yield step

    for budget, wanted in ((2000, 20), (None, 20), (100, 5), (12, 1)):
        state.step = 0
        (tmp_path / "metrics.jsonl").unlink(missing_ok=True)
        seen = list(StepWatch(state, tmp_path, budget, torch.device("cpu")).watch(taken()))  # type: ignore[arg-type]
        assert seen == steps
        lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
        assert [line["step"] for line in lines] == [*range(wanted, 101, wanted), 100]


def test_a_skipped_step_reaches_nothing_that_counts(prepare: Prepare, tmp_path: Path) -> None:
    entry = prepare(tmp_path, ["diveq"]).entries[0]
    state = train.begin_run(entry.plan)
    state.quantizing, state.step, state.skipped_in_a_row = True, 1, 1
    steps = iter([train.Step(1, 0.1, 0.0, figures={"loss": 0.0})])
    list(StepWatch(state, tmp_path, 12, torch.device("cpu")).watch(steps))
    assert read_watched(tmp_path)[1]["reached"] is None


def test_the_machine_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: Best CPU: 9000\nmodel name\t: other\n")
    monkeypatch.setattr(machine, "_CPUINFO", tmp_path / "cpuinfo")
    facts = machine.machine_facts(torch.device("cpu"))
    assert facts["processor"] == "Best CPU: 9000"
    assert (facts["device"], facts["torch"]) == ("cpu", torch.__version__)
    monkeypatch.setattr(machine, "_CPUINFO", tmp_path / "none")
    assert machine.processor_name()
