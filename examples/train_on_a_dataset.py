"""Train a tokenizer on a torchvision dataset, with a network of your own.

python examples/train_on_a_dataset.py                                                # noise, which is there at once
python examples/train_on_a_dataset.py --root data/ --download --steps 2000 -o run    # CIFAR-10
"""

import argparse
import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.datasets import CIFAR10, FakeData

from tokenizer import codec, train
from tokenizer.config import NetworkConfig, TrainConfig
from tokenizer.images import Source
from tokenizer.inputs import dataset_sources
from tokenizer.models import load_checkpoint

WIDTH, LATENT_DIM, DOWNSAMPLE = 96, 8, 4


class Block(nn.Module):
    """Mixes neighbors, then channels, and adds that to what it was."""

    def __init__(self) -> None:
        super().__init__()
        self.neighbors = nn.Conv2d(WIDTH, WIDTH, 5, padding=2, groups=WIDTH)
        self.channels = nn.Sequential(nn.Conv2d(WIDTH, 2 * WIDTH, 1), nn.GELU(), nn.Conv2d(2 * WIDTH, WIDTH, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C, h, w) for (B, C, h, w)."""
        return x + self.channels(self.neighbors(x))


def encoder() -> nn.Module:
    """Make a network from (B, 3, H, W) in [-1, 1] to (B, LATENT_DIM, H / DOWNSAMPLE, W / DOWNSAMPLE)."""
    patches = nn.Conv2d(3, WIDTH, DOWNSAMPLE, stride=DOWNSAMPLE)
    return nn.Sequential(patches, Block(), Block(), nn.Conv2d(WIDTH, LATENT_DIM, 1))


def decoder() -> nn.Module:
    """Make the network back."""
    patches = nn.ConvTranspose2d(WIDTH, 3, DOWNSAMPLE, stride=DOWNSAMPLE)
    return nn.Sequential(nn.Conv2d(LATENT_DIM, WIDTH, 1), Block(), Block(), patches)


def main(arguments: list[str] | None = None) -> None:
    """Train, load what was trained, and encode a few images."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", help="folder of CIFAR-10; without it, torchvision's FakeData")
    parser.add_argument("--download", action="store_true", help="download CIFAR-10 into it first")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("-o", "--output", type=Path, help="folder of the run; a temporary one if left out")
    given = parser.parse_args(arguments)

    dataset = CIFAR10(given.root, download=given.download) if given.root else FakeData(200, (3, 32, 32))
    with tempfile.TemporaryDirectory() as temporary:
        run(dataset_sources(dataset), given.steps, given.output or Path(temporary))


def run(images: list[Source], steps: int, folder: Path) -> None:
    """Train on `images` and encode the first ones."""
    config = TrainConfig(
        network=NetworkConfig(downsample=DOWNSAMPLE, widths=(WIDTH,), depths=(2,), latent_dim=LATENT_DIM),
        quantizer={"name": "diveq", "codebook_size": 256},
        steps=steps,
    )
    plan = train.plan_run(config, images)
    torch.manual_seed(0)
    state = train.begin_run(plan, encoder=encoder(), decoder=decoder())
    for step in train.train(plan, state, folder):
        if step.figures:
            print(f"step {step.step}: {step.figures['psnr']:.2f} dB on the batch")
        if step.evaluation:
            print(f"step {step.step}: {step.evaluation.psnr:.2f} dB on validation images")

    model = load_checkpoint(folder, encoder=encoder(), decoder=decoder())
    for result in codec.encode_images(model, images[:4], codec.EncodeOptions()):
        if isinstance(result, codec.Encoded):
            height, width, _ = result.grid.shape
            print(f"image {result.record.name}: {height}x{width} tokens, {len(set(result.grid.flat))} codes used")


if __name__ == "__main__":
    main()
