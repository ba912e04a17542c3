"""Token files in every layout, of the same random tokens."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tests.tokens.conftest import made
from tokenizer.tokens import (
    EncodedRow,
    Journal,
    TarWriter,
    TokenSet,
    header_line,
    manifest_line,
    select_rows,
    write_tokens,
)

COUNT = 30
NAMES = [f"{'ba'[number % 2]}/picture {29 - number}.png" for number in range(COUNT)]  # in no sorted order


def whole(codes: int = 1, **changes: object) -> TokenSet:
    """30 images of one grid, and one input that failed."""
    tokens = made([(2, 3)] * COUNT, (1000,) * codes, names=NAMES)
    return dataclasses.replace(tokens, header=dataclasses.replace(tokens.header, **changes))


def stacked(tokens: TokenSet) -> np.ndarray:
    """What `load_tokens` must return of it: (N, h, w) or (N, h, w, C)."""
    rows = np.stack(list(tokens.grids)).astype(np.uint16)
    return rows if rows.shape[-1] > 1 else rows[..., 0]


def pieces(tokens: TokenSet) -> list[TokenSet]:
    """Return the tokens in three parts of different lengths."""
    return [select_rows(tokens, range(*ends)) for ends in ((0, 7), (7, 19), (19, COUNT))]


def tar(path: Path, tokens: TokenSet) -> None:
    with Journal(path.with_name("journal"), {}, resume=False, overwrite=True) as journal:
        writer = TarWriter(journal, tokens.header)
        for record, grid in zip(tokens.images, tokens.grids, strict=True):
            writer.add(EncodedRow(record, grid))
        journal.commit()
        writer.write(path)
        journal.discard()


def shards(folder: Path, parts: Sequence[TokenSet], file_format: str = "safetensors") -> None:
    """Write shards whose names are not in the order of their index."""
    listed = []
    for number, part in enumerate(parts):
        name = f"shard-{9 - number}.{file_format}"
        (tar if file_format == "tar" else write_tokens)(folder / name, part)
        listed.append({"name": name, "images": len(part.images), "failed": 0})
    (folder / "index.json").write_text(json.dumps({"format": "vqtok-index", "version": 1, "shards": listed}))


def tree(folder: Path, tokens: TokenSet) -> None:
    """Write one file an image, and the manifest of all."""
    for row, record in enumerate(tokens.images):
        write_tokens(folder / f"{record.name}.npy", select_rows(tokens, range(row, row + 1)))
    with (folder / "manifest.jsonl").open("wb") as file:
        file.write(header_line(tokens.header))
        file.writelines(manifest_line(0, record) for record in tokens.images)


def lay(layout: str, folder: Path, tokens: TokenSet) -> list[Path]:
    """Write tokens in a layout, and return the paths that name them."""
    folder.mkdir(exist_ok=True)
    kind, _, file_format = layout.partition(" of ")
    if kind == "file":
        path = folder / f"tokens.{file_format}"
        (tar if file_format == "tar" else write_tokens)(path, tokens)
        return [path]
    if kind == "parts":
        paths = [folder / f"part-{9 - number}.{file_format}" for number in range(3)]
        for path, part in zip(paths, pieces(tokens), strict=True):
            (tar if file_format == "tar" else write_tokens)(path, part)
        return paths
    if kind == "shards":
        shards(folder, pieces(tokens), file_format)
    else:
        tree(folder, tokens)
    return [folder]


FORMATS = ("npy", "safetensors", "tar")
LAYOUTS = [f"{kind} of {file_format}" for kind in ("file", "parts", "shards") for file_format in FORMATS] + ["tree"]
