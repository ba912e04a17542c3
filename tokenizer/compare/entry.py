"""One entry of a comparison, from its plan to its result."""

from __future__ import annotations

import contextlib
import gc
import shutil
from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tokenizer import runtime, train
from tokenizer.compare.comparison import RUNS_FOLDER, Comparison, Entry
from tokenizer.compare.entry_result import RESULT_FILE, EntryResult, read_result, setting_differences, write_result
from tokenizer.compare.machine import machine_facts
from tokenizer.compare.measures import (
    EntryCurves,
    EntryFigures,
    bits_per_position,
    loss_steadiness,
    measure_lite0,
    measure_model,
    thin_curve,
)
from tokenizer.compare.watch import StepWatch, read_watched
from tokenizer.config import to_dict
from tokenizer.errors import CheckpointError, InputError, TrainingError
from tokenizer.images import parse_color
from tokenizer.models import WEIGHTS_FILE, load_checkpoint
from tokenizer.train import (
    Step,
    TrainingState,
    clear_states,
    has_states,
    no_validation_images,
    read_newest_state,
    validation_batches,
)

_ADVICE = "pass a smaller --batch-size, --image-size or --preset"


def finished_entries(comparison: Comparison) -> dict[Path, EntryResult]:
    """Return the results that are there already, by the folders of their entries; the others can start or go on.

    Raises:
        InputError: some were trained with other settings or on other images; the message names them.
        CheckpointError: what is there is damaged.
    """
    found: dict[Path, EntryResult] = {}
    faults: dict[str, list[str]] = {}
    for entry in comparison.entries:
        # What lost its checkpoint trains again.
        result = read_result(entry.folder) if (entry.folder / WEIGHTS_FILE).is_file() else None
        if result is not None:
            found[entry.folder] = result
        for fault in _faults(entry, result):
            faults.setdefault(fault, []).append(f"{entry.label} with seed {entry.seed}")
    if faults:
        listed = [f"{fault} ({who[0]}{_others(len(who) - 1)})" for fault, who in faults.items()]
        raise InputError(
            f"cannot resume with other settings: {'; '.join(listed)}: pass those of before, or another output"
        )
    return found


def _others(count: int) -> str:
    return f" and {count} more" if count else ""


def _faults(entry: Entry, result: EntryResult | None) -> list[str]:
    now, images = to_dict(entry.plan.config), _digests(entry)
    if result is not None:
        faults = setting_differences(result.settings, now)
        before = {"train": result.train_images, "validation": result.validation_images, "multiple": result.multiple}
        return faults or _image_faults(before, images)
    if not has_states(entry.folder):
        return []
    saved = read_newest_state(entry.folder)[0]
    return setting_differences(to_dict(saved.config), now) or _image_faults({"train": saved.data}, images)


def _image_faults(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    if before["train"] != now["train"]:
        return ["the training images are not those of before"]
    if before.get("validation", now["validation"]) != now["validation"]:
        return ["the validation images are not those of before"]
    old, new = before.get("multiple", now["multiple"]), now["multiple"]
    return [f"validation pictures had sides of multiples of {old}, now of {new}"] if old != new else []


def _digests(entry: Entry) -> dict[str, Any]:
    plan = entry.plan
    return {
        "train": train.identify_images(plan.train),
        "validation": train.identify_images(plan.validation),
        "multiple": plan.multiple,
    }


def clear_entries(folder: Path) -> None:
    """Remove the entries in `folder`, those that are not of this comparison too; other files stay."""
    for old in (folder / RUNS_FOLDER).glob("*/seed*"):
        if has_states(old) or any((old / name).is_file() for name in (RESULT_FILE, train.VALIDATION_FILE)):
            shutil.rmtree(old)


def train_entry(entry: Entry) -> Generator[Step]:
    """Train one entry, yielding its steps, from where it stands; then measure it and write its result.

    When the caller closes the generator, everything is saved, and the next call goes on from there. A finished
    entry keeps its checkpoint and loses its training state, which is large.

    Raises:
        TrainingError: the entry cannot go on: a gradient that is not finite, no memory.
        OutputError: a file cannot be written.
    """
    try:
        state = _state(entry)
        yield from _train(entry, state)
        write_result(entry.folder, _result(entry, state))
    except (RuntimeError, MemoryError) as error:
        explained = TrainingError("out of memory") if isinstance(error, MemoryError) else _explained(error)
        if explained is None:
            raise
        raise explained from error
    clear_states(entry.folder)


def result_of_entry(entry: Entry) -> EntryResult:
    """Return the result of a finished entry.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    result = read_result(entry.folder)
    if result is None:
        raise CheckpointError(f"{entry.folder} holds no {RESULT_FILE}: this entry has not finished")
    return result


def complete_result(entry: Entry, result: EntryResult) -> EntryResult:
    """Return the result of a finished entry with the figures that this comparison asks for; it is written again.

    Raises:
        CheckpointError: its checkpoint cannot be read.
        InputError: no validation image can be read.
        OutputError: it cannot be written.
    """
    if not entry.perceptual or result.figures.lite0_distance is not None:
        return result
    seen = measure_lite0(load_checkpoint(entry.folder), validation_images(entry))
    result = replace(result, figures=replace(result.figures, **asdict(seen)))
    write_result(entry.folder, result)
    return result


def _explained(error: RuntimeError) -> TrainingError | None:
    if isinstance(error, torch.linalg.LinAlgError):  # type: ignore[attr-defined]  # exported all the same
        return TrainingError(" ".join(str(error).split()))
    told = runtime.explain_error(error, _ADVICE)
    return TrainingError(str(told)) if told else None


def free_memory() -> None:
    """Let go of what the last entry held."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _state(entry: Entry) -> TrainingState:
    if has_states(entry.folder):
        return train.resume_run(entry.plan, read_newest_state(entry.folder)[0])
    train.clear_run(entry.folder)
    return train.begin_run(entry.plan)


def _train(entry: Entry, state: TrainingState) -> Generator[Step]:
    config = entry.plan.config
    watch = StepWatch(state, entry.folder, config.steps, torch.device(config.device))
    with (
        contextlib.closing(train.train(entry.plan, state, entry.folder)) as steps,
        contextlib.closing(watch.watch(steps)) as watched,
    ):
        yield from watched


def _result(entry: Entry, state: TrainingState) -> EntryResult:
    plan, model = entry.plan, state.ema
    lines, watched = read_watched(entry.folder)
    images = validation_images(entry)
    measured = measure_model(model, images)
    rate = bits_per_position(model.codebook_sizes)
    losses = [(int(line["step"]), float(line["loss"])) for line in lines if line.get("images_per_second")]
    figures = EntryFigures(
        psnr=measured.psnr,
        ssim=measured.ssim,
        bits_per_position=rate,
        bits_per_pixel=rate / model.downsample**2,
        used=measured.used,
        perplexity=measured.perplexity,
        tokens=measured.tokens,
        effective_rank=measured.effective_rank,
        loss_steadiness=loss_steadiness([loss for _, loss in losses]),
        **watched,
        **(asdict(measure_lite0(model, images)) if entry.perceptual else {}),
        **measured.flat.figures(),
    )
    digests = _digests(entry)
    return EntryResult(
        quantizer=entry.label,
        seed=entry.seed,
        settings=to_dict(plan.config),
        train_images=digests["train"],
        validation_images=digests["validation"],
        multiple=plan.multiple,
        steps=state.step,
        seconds=state.seconds,
        skipped=state.skipped,
        codebook_sizes=model.codebook_sizes,
        figures=figures,
        soft=measured.soft,
        curves=_curves(lines, losses),
        machine=machine_facts(torch.device(plan.config.device)),
    )


def _curves(lines: Sequence[Mapping[str, Any]], losses: Sequence[tuple[int, float]]) -> EntryCurves:
    validation = {float(line["step"]): line["validation"] for line in lines if "validation" in line}
    psnr, used, perplexity = (
        tuple((step, float(values[name])) for step, values in validation.items())
        for name in ("psnr", "used", "perplexity")
    )
    return EntryCurves(psnr, used, perplexity, thin_curve(losses))


def validation_images(entry: Entry, count: int | None = None) -> list[Tensor]:
    """Return the readable validation images of an entry, or `count` evenly spaced ones, in tiles.

    They are (P, T, S, S, 3) uint8 batches, see `train.validation_batches`.

    Raises:
        InputError: none of them can be read.
    """
    config, sources = entry.plan.config, entry.plan.validation
    if count is not None and count < len(sources):
        sources = tuple(sources[number * len(sources) // count] for number in range(count))
    alpha, size = parse_color(config.alpha), config.batch_size or 1
    made = validation_batches(sources, entry.plan.multiple, size, alpha, {}, config.encode_size)
    if not made:
        raise no_validation_images(sources)
    return made
