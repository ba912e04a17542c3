"""The loss as a gradient at the images: its terms together, in parts, and over a resume."""

from __future__ import annotations

import dataclasses
import datetime as dt
from pathlib import Path

import pytest
import safetensors.torch
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from tests.perceptual.test_vgg16 import random_state
from tokenizer import train
from tokenizer.config import TrainConfig
from tokenizer.errors import ConfigError, InputError, UsageError
from tokenizer.perceptual import lite0_distance, vgg16_distance
from tokenizer.train.losses import reconstruction_loss
from tokenizer.train.objective import Objective


@pytest.fixture(scope="module")
def vgg(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("vgg") / "vgg.safetensors"
    safetensors.torch.save_file(random_state(), path)
    return str(path)


@pytest.fixture
def both(quick: TrainConfig, vgg: str) -> TrainConfig:
    return dataclasses.replace(
        quick,
        loss={"l1": 1.0, "perceptual": 0.1, "adversarial": 0.5},
        perceptual_weights=vgg,
        adversarial_after=0.2,
        adversarial_warmup=0.1,
    )


@pytest.fixture
def adversarial(both: TrainConfig) -> TrainConfig:
    return dataclasses.replace(both, loss={"l2": 1.0, "adversarial": 0.5})


def batch(count: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    targets = torch.rand(count, 3, 32, 32, generator=generator) * 2 - 1
    return torch.nn.functional.avg_pool2d(targets, 3, 1, 1), targets


def step(objective: Objective, seed: int, progress: float = 1.0, parts: int = 1) -> tuple[Tensor, Tensor]:
    images, targets = batch(seed=seed)
    objective.begin(progress, 2e-3)
    pairs = list(zip(images.chunk(parts), targets.chunk(parts), strict=True))
    found = [objective.gradient(*pair, share=1 / parts) for pair in pairs]
    objective.end()
    return torch.cat([gradient / parts for gradient, _ in found]), torch.stack([loss for _, loss in found]).mean()


def flat(objective: Objective) -> dict[str, Tensor]:
    """Copies, as a file holds them."""
    return {name: value.clone(memory_format=torch.contiguous_format) for name, value in objective.tensors().items()}


def test_off_is_nothing(quick: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokenizer.train.objective.Adversary", None)
    monkeypatch.setattr("tokenizer.train.objective.perceptual_distance", None)
    for extra in ({}, {"perceptual": 0.0, "adversarial": 0.0}):
        objective = Objective(dataclasses.replace(quick, loss={"l2": 2.0, **extra}))
        images, targets = batch()
        gradient, loss = step(objective, 0)
        torch.testing.assert_close(gradient, 4 * (images - targets) / images.numel())
        assert float(loss) == pytest.approx(2 * float((images - targets).square().mean()))
        assert not images.requires_grad
        assert (objective.tensors(), objective.figures()) == ({}, {})
        objective.restore({})


def test_before_its_time_the_adversarial_term_is_nothing(adversarial: TrainConfig) -> None:
    objective = Objective(adversarial)
    before = flat(objective)
    plain = step(Objective(dataclasses.replace(adversarial, loss={"l2": 1.0})), 0)
    for found, wanted in zip(step(objective, 0, progress=0.1), plain, strict=True):
        assert torch.equal(found, wanted)
    assert objective.figures() == {"discriminator_skipped": 0.0}
    assert all(torch.equal(before[name], value) for name, value in objective.tensors().items())
    # The discriminator warms up alone.
    for found, wanted in zip(step(objective, 0, progress=0.25), plain, strict=True):
        assert torch.equal(found, wanted)
    assert objective.figures().keys() == {"adversarial", "discriminator", "discriminator_skipped"}
    assert not all(torch.equal(before[name], value) for name, value in objective.tensors().items() if name in before)


@pytest.mark.parametrize("progress", [0.35, 1.0])
def test_the_gradient_is_that_of_the_whole_loss(both: TrainConfig, progress: float) -> None:
    """Against autograd of one scalar, with the adaptive weights as the constants that they are."""
    objective = Objective(both)
    step(objective, 1)
    images, targets = batch()
    images.requires_grad_()
    assert objective.adversary is not None
    perceptual, network = vgg16_distance(Path(both.perceptual_weights or "")), objective.adversary.network
    others = reconstruction_loss(images, targets, both.loss) + 0.1 * perceptual(images, targets)
    scores = network(images).mean(dim=(1, 2, 3))
    down = [torch.autograd.grad(loss, images, retain_graph=True)[0] for loss in (others, scores.mean())]
    ratio = down[0].flatten(1).norm(dim=1) / down[1].flatten(1).norm(dim=1)
    weight = 0.5 * min(1.0, (progress - 0.3) / 0.1)
    whole = others - weight * (ratio * scores).mean()
    wanted = torch.autograd.grad(whole, images)[0]

    objective.begin(progress, 2e-3)
    gradient, loss = objective.gradient(images.detach(), targets)
    torch.testing.assert_close(gradient, wanted, rtol=1e-4, atol=1e-9)
    assert float(loss) == pytest.approx(float(whole.detach()), rel=1e-4)
    part = (gradient - down[0]).flatten(1).norm(dim=1) / down[0].flatten(1).norm(dim=1)
    torch.testing.assert_close(part, torch.full_like(part, weight), rtol=1e-3, atol=0)
    objective.end()
    figures = objective.figures()
    # Means over this step and that of the warm-up before it.
    assert figures.keys() >= {"perceptual", "adversarial", "discriminator", "adaptive_weight"}
    assert objective.figures().keys() == {"discriminator_skipped"}


def test_figures_are_means_over_steps_that_ended(adversarial: TrainConfig) -> None:
    objective = Objective(adversarial)
    values = []
    for seed in range(3):
        step(objective, seed)
        values.append(objective.figures())
    other = Objective(adversarial)
    for seed in range(3):
        step(other, seed, parts=2)
        other.begin(1.0, 2e-3)
        other.gradient(*batch(seed=9))
    found = other.figures()
    for name in ("adversarial", "discriminator", "adaptive_weight"):
        assert found[name] == pytest.approx(sum(value[name] for value in values) / 3, rel=1e-3)


@pytest.mark.slow
def test_parts_make_the_gradient_of_the_whole_batch(both: TrainConfig) -> None:
    one, two = Objective(both), Objective(both)
    for seed in range(2):
        whole, parts = step(one, seed), step(two, seed, parts=4)
        torch.testing.assert_close(parts[0], whole[0], rtol=1e-3, atol=1e-8)
        torch.testing.assert_close(parts[1], whole[1])
        assert one.adversary is not None
        assert two.adversary is not None
        pairs = zip(one.adversary.network.parameters(), two.adversary.network.parameters(), strict=True)
        for first, second in pairs:
            torch.testing.assert_close(first.grad, second.grad, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(one.tensors()["adversary/usual"], two.tensors()["adversary/usual"])


def train_half(rank: int, config: TrainConfig, folder: str) -> None:
    """Two steps on this rank's half of the batch."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2, timeout=dt.timedelta(seconds=60))
    objective = Objective(config)
    for seed in range(2):
        images, targets = (half.chunk(2)[rank] for half in batch(seed=seed))
        objective.begin(1.0, 2e-3)
        objective.gradient(images, targets)
        objective.end()
    safetensors.torch.save_file(flat(objective), f"{folder}/{rank}.safetensors")
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_make_the_discriminator_of_the_whole_batch(adversarial: TrainConfig, tmp_path: Path) -> None:
    mp.spawn(train_half, args=(adversarial, str(tmp_path)), nprocs=2)
    first, second = (safetensors.torch.load_file(tmp_path / f"{rank}.safetensors") for rank in range(2))
    whole = Objective(adversarial)
    for seed in range(2):
        step(whole, seed)
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
        wanted = whole.tensors()[name].float()
        # By norm: Adam's first steps are as long where a gradient is 0 but for rounding.
        assert (value - wanted).norm() <= 1e-3 * wanted.norm(), name


@pytest.mark.slow
@pytest.mark.parametrize("stop_at", [0, 1, 3])
def test_restored_goes_on_bit_for_bit(both: TrainConfig, stop_at: int) -> None:
    whole = Objective(both)
    saved = b""
    for seed in range(4):
        if seed == stop_at:
            saved = safetensors.torch.save(flat(whole))
        last = step(whole, seed)
    wanted = whole.tensors()
    # Once into a fresh one, as a resume does, and once into one that went elsewhere, as going back does.
    fresh, astray = Objective(both), Objective(both)
    step(astray, 77)
    for objective in (fresh, astray):
        objective.restore(safetensors.torch.load(saved))
        found = [step(objective, seed) for seed in range(stop_at, 4)][-1]
        assert all(torch.equal(a, b) for a, b in zip(found, last, strict=True))
        tensors = objective.tensors()
        assert tensors.keys() == wanted.keys()
        assert all(torch.equal(value, tensors[name]) for name, value in wanted.items())


def test_what_does_not_fit_is_refused(both: TrainConfig) -> None:
    objective = Objective(both)
    step(objective, 0)
    saved = flat(objective)
    with pytest.raises(KeyError):
        objective.restore({})
    with pytest.raises(KeyError):
        objective.restore({name: value for name, value in saved.items() if "usual" not in name})
    with pytest.raises(RuntimeError, match="size mismatch"):
        objective.restore(saved | {"adversary/discriminator/0.weight": torch.zeros(1)})
    with pytest.raises(RuntimeError, match="other weights"):
        objective.restore(saved | {"perceptual/digest": torch.zeros(32, dtype=torch.uint8)})


def test_it_changes_nothing_that_is_drawn(both: TrainConfig) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    step(Objective(both), 0)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_lower_precision_is_close(both: TrainConfig, precision: str) -> None:
    wanted, loss = step(Objective(both), 0)
    found, other = step(Objective(dataclasses.replace(both, precision=precision)), 0)
    assert found.dtype == torch.float32
    assert torch.equal(found, wanted) == (precision == "float16"), "float16 has too small a range: float32 it is"
    assert float(other) == pytest.approx(float(loss), rel=0.1)
    assert torch.nn.functional.cosine_similarity(found.flatten(), wanted.flatten(), dim=0) > 0.9


def test_what_is_wrong_is_said_when_it_is_planned(both: TrainConfig, photos: Path, tmp_path: Path) -> None:
    assert train.plan_run(both, [photos]).config.perceptual_weights == both.perceptual_weights

    def said(**changes: object) -> str:
        with pytest.raises((ConfigError, InputError)) as caught:
            train.plan_run(dataclasses.replace(both, **changes), [photos])  # type: ignore[arg-type]
        return str(caught.value)

    assert said(perceptual_weights="none.pth").startswith("perceptual_weights is 'none.pth', which is no file: get ")
    (tmp_path / "a.pth").write_bytes(b"hello")
    assert "damaged" in said(perceptual_weights=str(tmp_path / "a.pth"))
    assert said(loss={"adversarial": 1.0}).startswith("loss has no term above 0 beside adversarial, known: l1")
    assert said(loss={"l1": 1.0, "perceptul": 1.0}) == "unknown setting 'loss.perceptul', did you mean 'perceptual'?"
    assert said(image_size=16) == "image_size is 16, the loss takes 24 or more"
    assert said(image_size=8, loss={"perceptual": 1.0}) == "image_size is 8, the loss takes 16 or more"
    assert "would never begin" in said(adversarial_after=0.9, adversarial_warmup=0.1)
    assert said(adversarial_after=1.0, lecam=-1.0, adversarial_max=0.0, adversarial_lr=0.0).count(" is ") == 4


def test_without_a_file_the_term_sees_with_the_network_of_the_extra(
    both: TrainConfig, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = dataclasses.replace(both, perceptual_weights=None)
    (note,) = [note for note in train.plan_run(small, [photos]).notes if "EfficientNet-Lite0" in note]
    assert "perceptual_weights=FILE" in note
    assert not [note for note in train.plan_run(both, [photos]).notes if "perceptual" in note]
    objective = Objective(small)
    images, targets = batch()
    wanted = lite0_distance()(images, targets)
    step(objective, 0)
    assert objective.figures()["perceptual"] == pytest.approx(float(wanted), rel=1e-4)
    with pytest.raises(RuntimeError, match="other weights than those that the run began with"):
        Objective(both).restore(objective.tensors())

    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"^loss.perceptual needs a trained network, .*: pip install 'vqtok\[perc"):
        train.plan_run(small, [photos])
    with pytest.raises(UsageError, match=r"pip install 'vqtok\[perceptual\]'$"):
        Objective(small)


@pytest.mark.slow
def test_images_move_towards_what_the_discriminator_takes_for_real(adversarial: TrainConfig) -> None:
    """Blurred pictures in the decoder's place: with the term they regain contrast that the mean error does not ask."""
    config = dataclasses.replace(adversarial, adversarial_after=0.0, adversarial_warmup=0.0)
    spread = []
    for weight in (0.0, 0.9):
        objective = Objective(dataclasses.replace(config, loss={"l2": 1.0, "adversarial": weight}))
        shown = torch.zeros(1, 3, 32, 32)
        for seed in range(40):
            objective.begin(1.0, 2e-3)
            _, targets = batch(seed=seed)
            gradient, _ = objective.gradient(shown.expand_as(targets), targets)
            objective.end()
            shown = shown - 100 * gradient.sum(dim=0, keepdim=True)
        spread.append(float(shown.std()))
    assert spread[1] > 1.5 * spread[0]
