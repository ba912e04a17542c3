"""Who is compared, and that all else is alike."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from tests.compare.conftest import Prepare
from tests.conftest import draw, save
from tokenizer import compare, quantizers, train
from tokenizer.compare.comparison import contestant_folder
from tokenizer.config import TrainConfig, to_dict
from tokenizer.errors import ConfigError
from tokenizer.quantizers import METHODS, Quantizer, read_spec
from tokenizer.train import TrainingState


def test_entries_share_all_but_quantizer_and_seed(prepare: Prepare, tmp_path: Path) -> None:
    comparison = prepare(tmp_path, ["diveq", "ste(beta=1)"], [3, 0])
    assert comparison.labels == ("diveq", "ste(beta=1.0)")
    assert comparison.seeds == (3, 0)
    assert [(entry.seed, entry.label) for entry in comparison.entries] == [
        (seed, label) for seed in (3, 0) for label in comparison.labels
    ]
    first = comparison.entries[0]
    for entry in comparison.entries:
        alike = dataclasses.replace(
            entry.plan.config, quantizer=first.plan.config.quantizer, seed=first.plan.config.seed
        )
        assert alike == first.plan.config
        assert (entry.plan.train, entry.plan.validation) == (first.plan.train, first.plan.validation)
        assert entry.plan.config.quantizer["codebook_size"] == 32
    assert first.plan.config.log_every == 1
    assert not list(tmp_path.iterdir())


def test_evaluations_are_ten_or_as_asked(prepare: Prepare, tmp_path: Path) -> None:
    for steps, given, found in ((1000, None, 100), (1000, 30, 30), (5, None, 1)):
        assert prepare(tmp_path, ["ste"], steps=steps, eval_every=given).entries[0].plan.config.eval_every == found
    in_minutes = prepare(tmp_path, ["ste"], steps=None, minutes=1.0, eval_every=None)
    assert in_minutes.entries[0].plan.config.eval_every is None


def weights(state: TrainingState) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in state.model.named_parameters() if not name.startswith("quantizer.")}


def test_methods_start_from_equal_encoders_and_decoders(prepare: Prepare, tmp_path: Path) -> None:
    names = ["diveq", "ema", "rotation(codebook_size=16)", "residual(2*ste)", "gumbel(transform=mlp)"]
    first, *others = [weights(train.begin_run(entry.plan)) for entry in prepare(tmp_path, names).entries]
    assert any(name.startswith("decoder.") for name in first)
    for other in others:
        assert first.keys() == other.keys()
        assert all(torch.equal(first[name], other[name]) for name in first)
    seeded = weights(train.begin_run(prepare(tmp_path, names[:1], [1]).entries[0].plan))
    assert not torch.equal(first["decoder.layers.0.weight"], seeded["decoder.layers.0.weight"])


def test_methods_see_the_same_crops_and_stay_equal_until_codes_are_in_use(prepare: Prepare, tmp_path: Path) -> None:
    losses = []
    for entry in prepare(tmp_path, ["diveq", "ema"]).entries:
        steps = compare.train_entry(entry)
        losses.append([next(steps).figures["loss"] for _ in range(4)])  # type: ignore[index]
        steps.close()
    assert losses[0][:3] == losses[1][:3]
    assert losses[0][3] != losses[1][3]


def test_size_of_those_who_do_not_say_their_own(prepare: Prepare, tmp_path: Path) -> None:
    names = ["ste(codebook_size=64)", "ste", "diveq(codebook_size=1024)", "residual(diveq, diveq(codebook_size=8))"]
    comparison = prepare(tmp_path, names)
    assert comparison.labels == (
        "ste(codebook_size=64)",
        "ste",
        "diveq(codebook_size=1024)",
        "residual(diveq, diveq(codebook_size=8))",
    )
    sizes = [quantizers.build_quantizer(entry.plan.config.quantizer, 4).sizes for entry in comparison.entries]
    assert sizes == [(64,), (32,), (1024,), (32, 8)]


def test_a_method_without_a_size_is_left_as_it_is(
    prepare: Prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Fixed(METHODS["diveq"].cls):  # type: ignore[misc,name-defined]
        def __init__(self, dim: int, *, noise_std: float = 0.1) -> None:
            super().__init__(dim, codebook_size=8, noise_std=noise_std)

    monkeypatch.setitem(METHODS, "fixed", dataclasses.replace(METHODS["diveq"], name="fixed", cls=Fixed))
    comparison = prepare(tmp_path, ["fixed", "residual(fixed, ste)"])
    assert "codebook_size" not in comparison.entries[0].plan.config.quantizer
    assert quantizers.build_quantizer(comparison.entries[1].plan.config.quantizer, 4).sizes == (8, 32)


def test_everyone_is_every_method_that_is_not_made_of_others() -> None:
    names = {spec["name"] for spec in compare.parse_quantizers(None)}
    assert {"diveq", "ste", "ema", "gumbel"} <= names
    assert not {"residual", "product", "multiscale"} & names


def test_sides_serve_all_contestants(quick: TrainConfig, photos: Path, tmp_path: Path) -> None:
    config = dataclasses.replace(quick, image_size=None)
    specs = [read_spec(text) for text in ("ste", "multiscale(2*ste, scales=1 2)")]
    alone = compare.prepare_comparison(config, [photos], specs[:1], [0], tmp_path, 32)
    assert alone.entries[0].plan.multiple == 8
    comparison = compare.prepare_comparison(config, [photos], specs, [0], tmp_path, 32)
    assert {entry.plan.multiple for entry in comparison.entries} == {16}
    assert {entry.plan.config.image_size for entry in comparison.entries} == {48}
    assert {entry.plan.config.batch_size for entry in comparison.entries} == {8}
    with pytest.raises(ConfigError, match="image_size is 40, expected a multiple of 16"):
        compare.prepare_comparison(dataclasses.replace(config, image_size=40), [photos], specs, [0], tmp_path)


def test_held_out_pictures_are_cut_alike(quick: TrainConfig, tmp_path: Path) -> None:
    for number in range(24):
        save(tmp_path / "in" / f"{number}.png", draw(40, 40, number))
    specs = [read_spec(text) for text in ("ste", "multiscale(2*ste, scales=1 2)")]
    config = dataclasses.replace(quick, steps=4)
    comparison = compare.prepare_comparison(config, [tmp_path / "in"], specs, [0], tmp_path / "out", 32)
    tokens = []
    for entry in comparison.entries:
        for step in compare.train_entry(entry):
            last = step.evaluation
        assert last is not None
        result = compare.result_of_entry(entry)
        assert result.figures.psnr == pytest.approx(last.psnr)
        tokens.append(result.figures.tokens)
    # Of pictures of 40 pixels both see 32: 4 x 16 positions of one code, and 4 x 4 positions of 1 + 4.
    assert tokens == [64, 80]


def test_wider_latents_are_told(prepare: Prepare, tmp_path: Path) -> None:
    comparison = prepare(tmp_path, ["ste", "product(3*ste)"])
    widths = [entry.plan.config.network.latent_dim for entry in comparison.entries]
    assert widths == [4, 6]
    (told,) = [labels for note, labels in comparison.notes.items() if "needs wider latents" in note]
    assert told == ("product(3*ste)",)
    assert [dataclasses.replace(e.plan.config.network, latent_dim=4) for e in comparison.entries] == [
        comparison.entries[0].plan.config.network
    ] * 2


def test_all_faults_come_at_once(prepare: Prepare, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as one:
        prepare(tmp_path, ["stee", "diveq(nois=1)", "ste"])
    assert len(one.value.faults) == 2
    assert "unknown quantizer 'stee', did you mean 'ste'?" in str(one.value)
    assert "unknown setting 'quantizer.nois' of diveq" in str(one.value)
    with pytest.raises(ConfigError) as two:
        prepare(tmp_path, ["ste(beta=-1)", "ste", "gumbel(top_k=99)"], lr=-1.0)
    shared, *own = two.value.faults
    assert shared == "lr is -1.0, expected more than 0"
    assert [fault.partition(": ")[0] for fault in own] == ["ste(beta=-1.0)", "gumbel(top_k=99)"]


@pytest.mark.parametrize(
    ("names", "seeds", "said"),
    [(["ste", "ema", "ste"], [0], "the quantizer ste is named twice"), (["ste"], [1, 1], "the seed 1 is named twice")],
)
def test_nobody_comes_twice(prepare: Prepare, tmp_path: Path, names: list[str], seeds: list[int], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        prepare(tmp_path, names, seeds)


def test_folders_are_readable_safe_and_unique(prepare: Prepare, tmp_path: Path) -> None:
    assert contestant_folder("sf-diveq") == "sf-diveq"
    labels = ["residual(2*diveq)", "residual(diveq, 2)", "fsq(levels=8 5 5)", "a/../b", "x" * 99, "ste(beta=1.0)"]
    names = [contestant_folder(label) for label in labels]
    assert len(set(names)) == len(names)
    assert names[0].startswith("residual-2-diveq-")
    for name in names:
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789._-")
        assert 0 < len(name) < 80
        assert not name.startswith(".")
    folders = [entry.folder for entry in prepare(tmp_path, ["ste", "ema"], [0, 7]).entries]
    assert folders == [tmp_path / "runs" / name / seed for seed in ("seed0", "seed7") for name in ("ste", "ema")]


def test_settings_are_complete(prepare: Prepare, tmp_path: Path) -> None:
    values = to_dict(prepare(tmp_path, ["ste"]).entries[0].plan.config)
    assert {key for key, value in values.items() if value is None} == {
        "minutes",
        *("encode_size", "val_data", "init_from", "log_to", "patience", "perceptual_weights"),
    }
    assert issubclass(METHODS[values["quantizer"]["name"]].cls, Quantizer)
