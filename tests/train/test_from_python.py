"""Training from Python: on a dataset instead of files, with an encoder and a decoder that are not the package's."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from examples import train_on_a_dataset
from tests.conftest import draw
from tests.train.test_loop import everything
from tokenizer import codec, train
from tokenizer.config import TrainConfig
from tokenizer.errors import CheckpointError, ConfigError, InputError
from tokenizer.images import Source, read_image
from tokenizer.inputs import dataset_sources
from tokenizer.models import Tokenizer, fingerprint_of, load_checkpoint
from tokenizer.train import TrainingState


@pytest.fixture(autouse=True)
def same_results() -> Iterator[None]:
    torch.use_deterministic_algorithms(mode=True)
    yield
    torch.use_deterministic_algorithms(mode=False)


class Pictures:
    """A map-style dataset of (tensor, label), as torchvision's are."""

    def __len__(self) -> int:
        return 24

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        pixels = draw(40 + 8 * (number % 2), 48, number)
        return torch.from_numpy(pixels).permute(2, 0, 1) / 255, number


class Mixed(nn.Module):
    """Patches through kernels of two, three and four dimensions, a scalar, buffers, and weights of five dimensions."""

    def __init__(self, into: int, out: int, patch: int) -> None:
        super().__init__()
        self.into = nn.Conv2d(into * patch**2, 32, 1)
        self.norm = nn.BatchNorm2d(32)
        self.mix = nn.Linear(32, 64)
        self.along = nn.Conv1d(64, 32, 3, padding=1)
        self.gain = nn.Parameter(torch.tensor(0.5))
        self.five = nn.Parameter(torch.zeros(1, 1, 1, 1, 32))
        self.out = nn.Conv2d(32, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.into(x))
        rows = self.mix(x.flatten(2).transpose(1, 2)).transpose(1, 2)
        return self.out(x + self.gain * self.along(rows).relu().view(x.shape) + self.five.view(1, 32, 1, 1))


def encoder(dim: int = 4) -> nn.Module:
    return nn.Sequential(nn.PixelUnshuffle(8), Mixed(3, dim, 8))


def decoder(dim: int = 4) -> nn.Module:
    return nn.Sequential(Mixed(dim, 192, 1), nn.PixelShuffle(8))


def both() -> dict[str, nn.Module]:
    torch.manual_seed(7)
    return {"encoder": encoder(), "decoder": decoder()}


def finish(plan: train.Plan, state: TrainingState, folder: Path) -> list[train.Step]:
    return list(train.train(plan, state, folder))


def test_a_dataset_is_planned_split_and_named(quick: TrainConfig, photos: Path, tmp_path: Path) -> None:
    made = dataset_sources(Pictures())
    plan = train.plan_run(dataclasses.replace(quick, image_size=None), made)
    assert plan.config.image_size == 40
    assert (len(plan.train), len(plan.validation), plan.overlap) == (20, 4, False)
    together = train.plan_run(quick, [photos, *made])
    assert {source.name for source in (*together.train, *together.validation)} >= {"00", "23", "a/00.png", "c/23.png"}
    assert len(together.train) == 44
    finish(plan := train.plan_run(dataclasses.replace(quick, steps=2), made), train.begin_run(plan), tmp_path)
    assert (tmp_path / "validation.txt").read_text().split() == [source.name for source in plan.validation]
    with pytest.raises(InputError, match="there are no images: name a folder, or pass sources"):
        train.plan_run(quick, [])


@pytest.mark.parametrize("own", [False, True])
def test_resumed_on_a_dataset_equals_uninterrupted(quick: TrainConfig, tmp_path: Path, own: bool) -> None:
    plan = train.plan_run(dataclasses.replace(quick, workers=2), dataset_sources(Pictures()))
    whole = train.begin_run(plan, **(both() if own else {}))
    figures = finish(plan, whole, tmp_path / "whole")
    assert figures[-1].evaluation is not None

    steps = train.train(plan, train.begin_run(plan, **(both() if own else {})), tmp_path / "parts")
    assert len(list(islice(steps, 7))) == 7
    steps.close()
    again = train.plan_run(plan.config, dataset_sources(item for item in map(Pictures().__getitem__, range(24))))
    fresh = {"encoder": encoder(), "decoder": decoder()} if own else {}
    resumed = train.resume_run(again, train.read_newest_state(tmp_path / "parts")[0], **fresh)
    finish(again, resumed, tmp_path / "parts")
    first, second = everything(whole), everything(resumed)
    assert first.keys() == second.keys()
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert fingerprint_of(tmp_path / "whole") == fingerprint_of(tmp_path / "parts")


def test_another_length_is_not_resumed(quick: TrainConfig, tmp_path: Path) -> None:
    pictures = [Pictures()[number][0] for number in range(12)]
    plan = train.plan_run(dataclasses.replace(quick, steps=1), dataset_sources(pictures))
    finish(plan, train.begin_run(plan), tmp_path)
    other = train.plan_run(plan.config, dataset_sources(pictures[:11]))
    with pytest.raises(CheckpointError, match="training images are not those"):
        train.resume_run(other, train.read_newest_state(tmp_path)[0])


@pytest.mark.slow
def test_a_network_of_ones_own_learns_is_saved_and_loaded(quick: TrainConfig, tmp_path: Path) -> None:
    made = dataset_sources(Pictures())
    plan = train.plan_run(dataclasses.replace(quick, steps=150, log_every=10), made)
    parts = both()
    state = train.begin_run(plan, **parts)
    assert state.model.encoder is parts["encoder"]
    losses = [step.figures["loss"] for step in finish(plan, state, tmp_path) if step.figures]
    assert losses[-1] < losses[0] / 2

    model = load_checkpoint(tmp_path, encoder=encoder(), decoder=decoder())
    images = torch.rand(2, 3, 24, 40) * 2 - 1
    assert torch.equal(model.encode(images), state.ema.encode(images))
    assert not any(module.training for module in model.modules())
    (result,) = codec.encode_images(model, made[:1], codec.EncodeOptions())
    assert isinstance(result, codec.Encoded)
    assert result.grid.shape == (5, 6, 1)
    assert read_image(made[0].file).shape == (40, 48, 3)

    tuned = train.plan_run(
        dataclasses.replace(plan.config, init_from=str(tmp_path), freeze=("encoder",), steps=2), made
    )
    state = train.begin_run(tuned, **both())
    assert torch.equal(state.ema.encode(images), model.encode(images))
    assert finish(tuned, state, tmp_path / "tuned")[-1].step == 2


def test_it_is_refused_without_its_modules(quick: TrainConfig, tmp_path: Path) -> None:
    plan = train.plan_run(dataclasses.replace(quick, steps=1), dataset_sources(Pictures()))
    finish(plan, train.begin_run(plan, **both()), tmp_path)
    advice = "if it was trained from Python with others, pass these to load_checkpoint: "
    for given in ({}, {"encoder": encoder()}, {"encoder": encoder(5), "decoder": decoder()}):
        with pytest.raises(CheckpointError, match=advice) as caught:
            load_checkpoint(tmp_path, **given)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 600
    saved, _ = train.read_newest_state(tmp_path)
    for given in ({}, {"encoder": encoder()}):
        with pytest.raises(CheckpointError, match="another encoder or decoder: pass modules like those"):
            train.resume_run(plan, saved, **given)


def test_one_of_the_two_can_be_the_packages(quick: TrainConfig, tmp_path: Path) -> None:
    plan = train.plan_run(dataclasses.replace(quick, steps=3), dataset_sources(Pictures()))
    finish(plan, train.begin_run(plan, decoder=decoder()), tmp_path)
    assert load_checkpoint(tmp_path, decoder=decoder()).codebook_sizes == (32,)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"encoder": encoder(5)}, r"the encoder makes \(1, 5, 4, 4\) of \(1, 3, 32, 32\), expected \(1, 4, 4, 4\)"),
        ({"decoder": nn.Identity()}, r"the decoder makes \(1, 4, 4, 4\) of \(1, 4, 4, 4\), expected \(1, 3, 32, 32\)"),
        ({"encoder": nn.LSTM(32, 32)}, "the encoder makes tuple of"),
        ({"decoder": decoder().half()}, r"the decoder has parameters of torch\.float16, expected torch\.float32"),
    ],
)
def test_modules_that_do_not_fit(quick: TrainConfig, given: dict[str, Any], message: str) -> None:
    if isinstance(given.get("encoder"), nn.LSTM):
        given["encoder"].forward = lambda images: (images, None)
    with pytest.raises(ConfigError, match=message):
        train.begin_run(train.plan_run(quick, dataset_sources(Pictures())), **given)


class Tied(nn.Module):
    """One matrix there and back."""

    def __init__(self, weight: nn.Parameter, *, back: bool) -> None:
        super().__init__()
        self.weight, self.back = weight, back

    def forward(self, x: Tensor) -> Tensor:
        if self.back:
            return nn.functional.conv_transpose2d(x, self.weight, stride=8)
        return nn.functional.conv2d(x, self.weight, stride=8)


@pytest.mark.parametrize("width", [4, 32], ids=["AdamW", "Muon"])
def test_encoder_and_decoder_may_share_weights(quick: TrainConfig, tmp_path: Path, width: int) -> None:
    def tied() -> dict[str, nn.Module]:
        weight = nn.Parameter(torch.randn(width, 3, 8, 8) / 16)
        return {"encoder": Tied(weight, back=False), "decoder": Tied(weight, back=True)}

    network = dataclasses.replace(quick.network, latent_dim=width)
    plan = train.plan_run(dataclasses.replace(quick, network=network), dataset_sources(Pictures()))
    steps = train.train(plan, train.begin_run(plan, **tied()), tmp_path)
    list(islice(steps, 6))
    steps.close()
    state = train.resume_run(plan, train.read_newest_state(tmp_path)[0], **tied())
    finish(plan, state, tmp_path)
    model = load_checkpoint(tmp_path, **tied())
    assert model.encoder.weight is model.decoder.weight
    assert torch.equal(model.encoder.weight, state.ema.encoder.weight)


@pytest.mark.parametrize("parts", [1, 2])
def test_an_encoder_without_weights(quick: TrainConfig, tmp_path: Path, parts: int) -> None:
    class Shrink(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.cat([nn.functional.avg_pool2d(images, 8), images[:, :1, ::8, ::8]], dim=1)

    plan = train.plan_run(dataclasses.replace(quick, grad_accum=parts), dataset_sources(Pictures()))
    state = train.begin_run(plan, encoder=Shrink())
    assert finish(plan, state, tmp_path)[-1].step == 12
    assert load_checkpoint(tmp_path, encoder=Shrink()).encode(torch.zeros(1, 3, 16, 8)).shape == (1, 2, 1, 1)


def test_an_empty_sequence_is_a_module_too(quick: TrainConfig) -> None:
    model = Tokenizer(quick.network, quick.quantizer, encoder=nn.Sequential(), decoder=nn.Sequential())
    assert not [*model.encoder.parameters(), *model.decoder.parameters()]


def test_a_source_is_any_call(quick: TrainConfig, tmp_path: Path) -> None:
    made = [Source(f"drawn {number}", lambda number=number: draw(48, 48, number)) for number in range(8)]
    made.append(Source("broken", lambda: draw(48, 48)[..., :0]))
    plan = train.plan_run(dataclasses.replace(quick, val_images=2, seed=1), made)
    steps = finish(plan, train.begin_run(plan), tmp_path)
    assert {name for step in steps for name, _ in step.unreadable} == {"broken"}


def test_the_example_trains_and_encodes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train_on_a_dataset.main(["--steps", "4", "-o", str(tmp_path / "run")])
    lines = capsys.readouterr().out.splitlines()
    assert "step 4: " in lines[0]
    assert lines[0].endswith("dB on validation images")
    assert [line.split(":")[0] for line in lines[-4:]] == [f"image 00{number}" for number in range(4)]
    assert all("8x8 tokens" in line for line in lines[-4:])
    assert (tmp_path / "run" / "model.safetensors").exists()
