"""What several tests share: drawn pictures, and a tokenizer small enough to train in a second."""

from __future__ import annotations

import os

# Tensors this small gain nothing from threads, and processes that share a few cores lose much by them.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import inspect
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tokenizer import train
from tokenizer.config import NetworkConfig, TrainConfig

# A shell that runs the tests in the background makes them, and all they start, ignore signals, which some test.
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):  # not on Windows
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

ROOT = Path(__file__).parents[1]
IS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0
# Windows has no pipes among its files, no signals but Ctrl-C, no limits of a process, and its own shell.
POSIX = ("mkfifo", "fsdecode", "AF_UNIX", "/dev/", "/proc/", "SIGHUP", "SIGKILL", "chmod")
if os.name == "nt":
    collect_ignore = ["cli", "hostile/test_fuzzing.py"]
    collect_ignore += ["jobs/test_kill_and_resume.py", "train/test_killed.py", "train/test_several_ranks.py"]
TINY = NetworkConfig(downsample=8, widths=(32, 32), depths=(1, 1), latent_dim=4)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as slow what starts a shell or a browser; skip on Windows what names a thing that Windows has not."""
    for item in items:
        if isinstance(item, pytest.Function):
            if {"shell", "browser"} & set(item.fixturenames):
                item.add_marker(pytest.mark.slow)
            if os.name == "nt" and any(word in inspect.getsource(item.function) for word in POSIX):
                item.add_marker(pytest.mark.skip(reason="needs what Windows has not"))


def draw(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Return a smooth (height, width, 3) uint8 picture with an edge in it."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width] / 32
    waves = [np.sin(x * a + y * b + c) for a, b, c in random.uniform(0.2, 2.0, (3, 3))]
    pixels = np.stack(waves, axis=-1) * 100 + 128
    pixels[height // 2 :, width // 2 :] += random.uniform(-60, 60, 3)
    return np.clip(pixels, 0, 255).astype(np.uint8)


def loaded_by(modules: Iterable[str]) -> set[str]:
    """Return the modules that a fresh Python holds after importing these."""
    code = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stderr == ""
    return set(done.stdout.split())


def save(path: Path, pixels: np.ndarray) -> Path:
    """Write pixels as an image file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 24 drawn pictures of several sizes, in sub-folders."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(24):
        height, width = [(64, 64), (48, 72), (80, 56)][number % 3]
        save(folder / "abc"[number % 3] / f"{number:02d}.png", draw(height, width, number))
    return folder


@pytest.fixture(scope="session")
def quick() -> TrainConfig:
    """Settings of a run of 12 steps."""
    return TrainConfig(
        network=TINY,
        quantizer={"name": "diveq", "codebook_size": 32},
        image_size=32,
        steps=12,
        batch_size=8,
        precision="float32",
        device="cpu",
        workers=0,
        val_images=4,
        log_every=4,
    )


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory, photos: Path, quick: TrainConfig) -> Path:
    """A finished run on `photos`: 32 codes, one for 8x8 pixels."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    plan = train.plan_run(quick, [photos])
    for _ in train.train(plan, train.begin_run(plan), folder):
        pass
    return folder
