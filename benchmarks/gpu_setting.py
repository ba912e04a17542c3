"""What the rows of `benchmarks.gpu` share: the machine, pictures, checkpoints, and what the CPU makes of them."""

from __future__ import annotations

import functools
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from tokenizer import codec
from tokenizer.images import Source, encode_image, placement_of, read_image
from tokenizer.inputs import find_images
from tokenizer.models import Tokenizer, load_checkpoint, locate_checkpoint


@dataclass(frozen=True)
class Found:
    """What a row found, and whether that passes; None where nothing is asked of it."""

    text: str
    passed: bool | None = None


@dataclass(frozen=True, eq=False)
class Setting:
    """What all rows share.

    Attributes:
        device: where to run.
        photos: folder of photographs; None for drawn ones.
        models: names or folders of checkpoints.
        scratch: an empty folder.
        small: sizes for a processor.
    """

    device: torch.device
    photos: Path | None
    models: Sequence[str]
    scratch: Path
    small: bool = False

    @property
    def search_sizes(self) -> tuple[tuple[int, int, int], ...]:
        """(N, K, D) of searches."""
        return ((300, 200, 8),) if self.small else ((4096, 1024, 64), (65536, 16384, 8), (8192, 65536, 32))

    @property
    def image_size(self) -> int:
        """Side of the pictures that are encoded."""
        return 64 if self.small else 256

    @functools.cached_property
    def folder(self) -> Path:
        """The folder of photographs."""
        return self.photos or draw_pictures(self.scratch / "drawn", 12)

    @functools.cached_property
    def sources(self) -> list[Source]:
        """Pictures out of the folder, evenly."""
        found = list(find_images([self.folder]))
        return found[:: max(1, len(found) // (6 if self.small else 96))]

    def options(self, **changes: object) -> codec.EncodeOptions:
        """Return how pictures are encoded."""
        return codec.EncodeOptions(self.image_size, "crop", **changes)  # type: ignore[arg-type]

    @functools.cache  # noqa: B019  # it lives as long as the table
    def model(self, name: str, device: str) -> Tokenizer:
        """Return a checkpoint on a device."""
        return load_checkpoint(locate_checkpoint(name)).to(device)

    @functools.cache  # noqa: B019
    def cpu_tokens(self, name: str) -> np.ndarray:
        """Return the (B, h, w, C) tokens that the CPU makes in float32."""
        return tokens_of(self.model(name, "cpu"), self.sources, self.options())


def draw_pictures(folder: Path, count: int) -> Path:
    """Write PNG files of waves, and return their folder."""
    folder.mkdir(parents=True, exist_ok=True)
    y, x = np.mgrid[:96, :128] / 32
    for number in range(count):
        random = np.random.default_rng(number)
        waves = [np.sin(x * a + y * b + c) for a, b, c in random.uniform(0.2, 4, (3, 3))]
        pixels = (np.stack(waves, axis=-1) * 100 + 128).astype(np.uint8)
        (folder / f"{number}.png").write_bytes(encode_image(pixels, "png"))
    return folder


def pictures_of(setting: Setting) -> np.ndarray:
    """Return the (B, H, W, 3) pixels of the pictures as they are encoded."""
    size = setting.image_size
    pixels = [read_image(source.file) for source in setting.sources]
    return np.stack([placement_of(p.shape[:2], "crop", size, 1).apply(p) for p in pixels])


def tokens_of(model: Tokenizer, sources: Sequence[Source], options: codec.EncodeOptions) -> np.ndarray:
    """Return the (B, h, w, C) tokens of pictures of one size."""
    encoded = list(codec.encode_images(model, sources, options))
    return np.stack([one.grid for one in encoded if isinstance(one, codec.Encoded)])


def seconds(work: Callable[[], object], setting: Setting, rounds: int = 5) -> float:
    """Return the median time of a piece of work, after one that does not count."""
    wait = torch.cuda.synchronize if setting.device.type == "cuda" else lambda: None
    times = []
    for _ in range(1 + rounds):
        wait()
        began = time.perf_counter()
        work()
        wait()
        times.append(time.perf_counter() - began)
    return float(np.median(times[1:]))


def run(command: Sequence[str]) -> str:
    """Run a command for two minutes at most, and return what it prints.

    Raises:
        RuntimeError: it fails; the message is the last line that it wrote.
    """
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise RuntimeError(f"exit code {done.returncode}: {lines[-1] if lines else ''}")
    return done.stdout
