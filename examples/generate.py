"""Train a small autoregressive transformer on the tokens of pictures of one size, and draw new ones.

vqtok train sprites/ -o run --downsample 4 --codebook-size 512 --minutes 6
vqtok encode sprites/ -m run --image-size 32 -o tokens.npy
python examples/generate.py tokens.npy -o samples.npy --minutes 8
vqtok decode samples.npy -m run --contact-sheet -o samples.png
"""

import argparse
import itertools
import math
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset

from tokenizer.tokens import TokenDataset, load_tokens

EVERY = 50  # steps between evaluations


class Block(nn.Module):
    """Attention to what came before, then a perceptron for each token."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.before_attention, self.before_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, T, width) for (B, T, width)."""
        split = self.qkv(self.before_attention(x)).unflatten(-1, (3, self.heads, -1))
        q, k, v = split.permute(2, 0, 3, 1, 4)  # (B, heads, T, width / heads) each
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
        x = x + F.dropout(self.out(attended), self.dropout, self.training)
        return x + F.dropout(self.mlp(self.before_mlp(x)), self.dropout, self.training)


class Transformer(nn.Module):
    """Predicts each token of a sequence from those before it; the first from a start token alone."""

    def __init__(self, vocabulary: int, length: int, width: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.start = vocabulary
        self.token, self.place = nn.Embedding(vocabulary + 1, width), nn.Embedding(length, width)
        self.blocks = nn.Sequential(*[Block(width, width // 32, dropout) for _ in range(layers)])
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, vocabulary))
        for table in (self.token, self.place):
            nn.init.normal_(table.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the (B, T + 1, vocabulary) logits of each token and the next one, for the (B, T) first tokens."""
        before = F.pad(tokens, (1, 0), value=self.start)
        places = torch.arange(before.shape[1], device=tokens.device)
        return self.head(self.blocks(self.token(before) + self.place(places)))


def loss(model: Transformer, sequences: Tensor) -> Tensor:
    """Return the mean cross-entropy of (B, T) tokens in bits."""
    with torch.autocast(sequences.device.type, torch.bfloat16):
        logits = model(sequences[:, :-1])
    return F.cross_entropy(logits.float().flatten(0, 1), sequences.flatten()) / math.log(2)


@torch.no_grad()
def evaluate(model: Transformer, sequences: Tensor, batch_size: int) -> float:
    """Return the mean cross-entropy of all sequences in bits per token."""
    model.eval()
    bits = [loss(model, batch).item() * len(batch) for batch in sequences.split(batch_size)]
    model.train()
    return sum(bits) / len(sequences)


def train(
    model: Transformer, loader: DataLoader[Tensor], validation: Tensor, offsets: Tensor, given: argparse.Namespace
) -> None:
    """Train until the budget is spent, and leave the weights that were best on the validation images."""
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.1, betas=(0.9, 0.95))
    best, kept, started = math.inf, {}, time.monotonic()
    for step, batch in enumerate(itertools.chain.from_iterable(itertools.repeat(loader)), 1):
        spent = min(1.0, step / given.steps if given.steps else (time.monotonic() - started) / 60 / given.minutes)
        for group in optimizer.param_groups:
            group["lr"] = given.lr * min(1, step / 50) * (0.05 + 0.95 * math.cos(spent * math.pi / 2) ** 2)
        optimizer.zero_grad()
        bits = loss(model, batch.to(offsets.device) + offsets)
        bits.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1)
        optimizer.step()
        if step % EVERY == 0 or spent == 1:
            now = evaluate(model, validation, given.batch_size)
            print(f"step {step}: {bits.item():.3f} bits per token, {now:.3f} on validation images", flush=True)
            if now < best:
                best, kept = now, {name: value.clone() for name, value in model.state_dict().items()}
        if spent == 1:
            break
    model.load_state_dict(kept)


@torch.no_grad()
def sample(
    model: Transformer, count: int, offsets: Tensor, sizes: Tensor, temperature: float, top_k: int | None
) -> Tensor:
    """Return (count, T) sequences, drawn token by token."""
    model.eval()
    tokens = torch.empty(count, 0, dtype=torch.long, device=offsets.device)
    for offset, size in zip(offsets.tolist(), sizes.tolist(), strict=True):
        logits = model(tokens)[:, -1, offset : offset + size] / temperature  # those of its own codebook
        if top_k and top_k < size:
            logits[logits < logits.topk(top_k).values[:, -1:]] = -math.inf
        drawn = torch.multinomial(logits.softmax(-1), 1) + offset
        tokens = torch.cat([tokens, drawn], 1)
    return tokens


def entropy(tokens: NDArray[np.int64]) -> float:
    """Return the entropy of single tokens in bits, a mean over the C codes of (..., C) tokens."""
    shares = [np.unique(code, return_counts=True)[1] / code.size for code in tokens.reshape(-1, tokens.shape[-1]).T]
    return float(np.mean([-(share * np.log2(share)).sum() for share in shares]))


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Return what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tokens", nargs="+", help="files or folders that vqtok encode wrote, of one grid")
    parser.add_argument("-o", "--output", type=Path, required=True, help="where the drawn tokens go, a .npy")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--steps", type=int, help="train that many steps, not minutes")
    parser.add_argument("--images", type=int, default=64, help="how many to draw")
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--top-k", type=int, help="draw from the K likeliest tokens")
    parser.add_argument("--width", type=int, default=192, help="a multiple of 32")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Train on all but a twentieth of the images, and draw new ones."""
    given = parse(arguments)
    torch.manual_seed(given.seed)
    tokens = load_tokens(*given.tokens)
    dataset = TokenDataset(tokens, flat=True)
    if len(dataset) < 2:
        raise SystemExit("one image is not enough: some are trained on, the others are for validation")
    height, width, codes = (*tokens.shape[1:], 1)[:3]
    # The codes of a position follow each other, and each codebook has token numbers of its own.
    sizes = torch.tensor(tokens.codebook_sizes or (int(np.max(tokens)) + 1,) * codes)
    offsets = (sizes.cumsum(0) - sizes).repeat(height * width).to(given.device)

    validation, rest = torch.randperm(len(dataset)).tensor_split([max(1, len(dataset) // 20)])
    loader = DataLoader(Subset(dataset, rest.tolist()), given.batch_size, shuffle=True)
    unseen = torch.stack(dataset.__getitems__(validation[:512].tolist())).to(given.device) + offsets
    model = Transformer(int(sizes.sum()), len(offsets), given.width, given.layers, given.dropout).to(given.device)
    print(
        f"{len(rest)} images of {len(offsets)} tokens, {len(validation)} for validation; "
        f"single tokens have {entropy(np.asarray(tokens[:10000]).reshape(-1, codes)):.3f} bits"
    )
    train(model, loader, unseen, offsets, given)

    drawn = sample(model, given.images, offsets, sizes.repeat(height * width), given.temperature, given.top_k) - offsets
    np.save(given.output, drawn.cpu().numpy().astype(tokens.dtype).reshape(-1, *tokens.shape[1:]))


if __name__ == "__main__":
    main()
