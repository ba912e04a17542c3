"""Does a codebook come to life again? Used codes after training from codebooks of a wrong scale.

    python -m benchmarks.recovery

A layer alone learns latents that do not change: 8 numbers each from a mixture of 64 Gaussians, a standard deviation of
1 overall. Its codes start as Gaussian noise of 0.01 to 100 times that, with and without dead-code replacement; it
trains with the optimizer of `vqtok train` on the squared error of its training output plus its own loss. The figure
is the share of codes that 65,536 latents not trained on choose.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor

from tokenizer import quantizers
from tokenizer.quantizers import CodebookQuantizer

METHODS = (
    "diveq",
    "diveq-detach",
    "nsvq",
    "ste",
    "ema",
    "rotation",
    "gumbel",
    "ibq",
    "diveq(transform=linear)",
    "ste(transform=linear-frozen)",
    "sf-diveq",
)
SCALES = (0.01, 0.1, 1.0, 10.0, 100.0)
DIM = 8


class Latents:
    """A mixture of 64 Gaussians in 8 dimensions, of unit variance overall."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.centers = torch.randn(64, DIM, generator=generator)
        self.widths = 0.2 + 0.8 * torch.rand(64, DIM, generator=generator)
        self.scale = (self.centers.var(dim=0) + self.widths.square().mean(dim=0)).sqrt()

    def draw(self, count: int) -> Tensor:
        """Return (count, 8) latents."""
        owner = torch.randint(64, (count,))
        return (self.centers[owner] + self.widths[owner] * torch.randn(count, DIM)) / self.scale


def used(name: str, scale: float, patience: int, arguments: argparse.Namespace) -> float:
    """Return the share of used codes after training from codes of that scale."""
    torch.manual_seed(0)
    options = {"codebook_size": arguments.codebook_size}
    if "dead_code_patience" in quantizers.METHODS[quantizers.read_spec(name)["name"]].options:
        options["dead_code_patience"] = patience
    layer = quantizers.build_quantizer({"name": name, **options}, DIM).train()
    assert isinstance(layer, CodebookQuantizer)
    with torch.no_grad():
        start = scale * torch.randn(arguments.codebook_size, DIM)
        layer.table.place(start)
        if hasattr(layer, "averages") and layer.averages is not None:
            layer.averages.restart(start)
    trained = [parameter for parameter in layer.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=2e-3, betas=(0.9, 0.95), weight_decay=0.0) if trained else None
    latents = Latents()
    for _ in range(arguments.steps):
        z = latents.draw(arguments.batch)
        result = layer(z)
        if optimizer:
            optimizer.zero_grad()
            ((result.vectors - z).square().mean() + result.loss).backward()
            optimizer.step()
        layer.replace_dead_codes()
    tokens = layer.eval().encode(latents.draw(65_536))
    return tokens.unique().numel() / layer.sizes[0]


def main() -> None:
    """Parse, train, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--codebook-size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch", type=int, default=2048)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), metavar="NAME")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"| method | dead-code replacement | {' | '.join(f'{scale:g}' for scale in SCALES)} |\n{'| --- ' * 7}|")
    for name in arguments.methods:
        replaces_dead_codes = "dead_code_patience" in quantizers.METHODS[quantizers.read_spec(name)["name"]].options
        for patience in (0, 50) if replaces_dead_codes else (0,):
            shares = [f"{100 * used(name, scale, patience, arguments):.1f} %" for scale in SCALES]
            print(f"| `{name}` | {'yes' if patience else 'no'} | {' | '.join(shares)} |", flush=True)


if __name__ == "__main__":
    main()
