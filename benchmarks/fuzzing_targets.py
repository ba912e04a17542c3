"""What `benchmarks.fuzzing` and `tests/hostile` feed with bytes: each reader of files."""

from __future__ import annotations

import contextlib
import io
import json
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fuzzing_promises import Target
from tokenizer.config import NetworkConfig
from tokenizer.errors import VqtokError
from tokenizer.images import placement_of
from tokenizer.models import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    describe_checkpoint,
    fingerprint_of,
    load_checkpoint,
    save_checkpoint,
)
from tokenizer.tokens import (
    EncodedRow,
    FailedInput,
    Header,
    ImageRecord,
    Journal,
    StackWriter,
    TarWriter,
    TokenFile,
    TokenFiles,
    TokenSet,
    earlier_outcomes,
    find_token_files,
    load_tokens,
    read_tokens,
    select_images,
    sidecar_of,
    tokens_to_bytes,
    write_tokens,
)

_MARK = b"\n--and--\n"


def _tokens(sizes: tuple[int, ...] = (1000,), grids: tuple[tuple[int, int], ...] = ((2, 3), (2, 3))) -> TokenSet:
    """Return tokens of a few images, and an input that failed."""
    dice = np.random.default_rng(0)
    modes = ("none", "crop", "pad", "squash")
    records = []
    for row, grid in enumerate(grids):
        original, side = (grid[0] * 8 - 1, grid[1] * 8 - 2), (None if grid[0] != grid[1] else grid[0] * 8)
        records.append(
            ImageRecord(f"a/{row}.png", grid, placement_of(original, modes[row % 4 if side else 0], side, 8))
        )
    arrays = [np.stack([dice.integers(0, size, grid) for size in sizes], axis=-1) for grid in grids]
    header = Header("f" * 64, sizes, 8, {"vqtok": "1"}, {"resize_mode": "none", "image_size": None})
    return TokenSet(header, records, arrays, [FailedInput("bad.png", "not an image")])


def read_all(tokens: TokenSet) -> None:
    """Read every row of a token set; AssertionError where one is not what it says."""
    with contextlib.suppress(VqtokError):
        tokens.check_range(tokens.header.codebook_sizes or (1000,))
    for record, grid in zip(tokens.images, tokens.grids, strict=True):
        assert grid.shape == (*record.grid, tokens.codes_per_position)
        assert grid.dtype.kind in "iu"
        if record.placement:
            (height, width), (tall, wide) = record.placement.restored, record.placement.canvas
            assert height * width <= max(2**28, tall * wide)
    assert all(failure.reason is not None for failure in tokens.failed)


class Tokens(Target):
    """Token files in every container."""

    name = "tokens"

    def make(self) -> list[bytes]:
        """Return a file in each container and layout."""
        plain, several = _tokens(), _tokens((300, 7), ((2, 3), (1, 2), (2, 2), (2, 2)))
        array = np.arange(12, dtype=np.uint16).reshape(2, 2, 3)
        files = [
            tokens_to_bytes(plain, "npy"),
            tokens_to_bytes(plain, "safetensors"),
            tokens_to_bytes(several, "safetensors"),
        ]
        for save in (np.savez, np.savez_compressed):
            buffer = io.BytesIO()
            save(buffer, tokens=array)
            files.append(buffer.getvalue())
        return [*files, self._tar(several), self._long_tar()]

    def _tar(self, tokens: TokenSet) -> bytes:
        with Journal(self.scratch / "journal", {}, overwrite=True) as journal:
            writer = TarWriter(journal, tokens.header)
            for record, grid in zip(tokens.images, tokens.grids, strict=True):
                writer.add(EncodedRow(record, grid, [("a/label.txt", b"7")]))
            journal.commit()
            data = b"".join(writer.pieces())
            journal.discard()
        return data

    def _long_tar(self) -> bytes:  # of headers of every kind
        buffer = io.BytesIO()
        for kind in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
            with tarfile.open(fileobj=buffer, mode="w", format=kind) as archive:
                info = tarfile.TarInfo("d/" * 80 + "x.npy")
                info.size, info.linkname = 3, "l" * 200
                archive.addfile(info, io.BytesIO(b"abc"))
        return buffer.getvalue()

    def read(self, data: bytes) -> None:
        """Read it from memory, and some from a file too."""
        if zlib.crc32(data) % 4 == 0:
            path = self.scratch / "t.bin"
            path.write_bytes(data)
            with contextlib.suppress(VqtokError):
                np.asarray(load_tokens(path))
        read_all(read_tokens(data))


class Checkpoint(Target):
    """A checkpoint's two files."""

    name = "checkpoint"

    def make(self) -> list[bytes]:
        """Return checkpoints of several quantizers, of networks that are hardly there."""
        from tokenizer.models import Tokenizer

        folder = self.scratch / "checkpoint"
        specs: list[dict[str, Any]] = [{"name": name, "codebook_size": 4} for name in ("diveq", "ema", "fsq", "lfq")]
        specs.append({"name": "residual(2*diveq(codebook_size=2), fsq(codebook_size=3))"})
        specs.append({"name": "multiscale(2*ste(codebook_size=3), scales=1 2)"})
        found = []
        for spec in specs:
            save_checkpoint(folder, Tokenizer(NetworkConfig(4, (3,), (1,), 2), spec), {"steps": 1})
            found.append(_MARK.join((folder / name).read_bytes() for name in (CONFIG_FILE, WEIGHTS_FILE)))
        return found

    def read(self, data: bytes) -> None:
        """Describe it, and load it."""
        folder = self.scratch / "checkpoint"
        config, _, weights = data.partition(_MARK)
        (folder / CONFIG_FILE).write_bytes(config)
        (folder / WEIGHTS_FILE).write_bytes(weights)
        description = describe_checkpoint(folder)
        assert description.bits_per_pixel >= 0
        with contextlib.suppress(VqtokError):
            fingerprint_of(folder)
        load_checkpoint(folder)


class Config(Target):
    """A config file and `--set`."""

    name = "config"

    def make(self) -> list[bytes]:
        """Return settings as `--print-config` writes them, and some by hand."""
        import tokenizer.quantizers  # what importing runs is none of an input's doing
        from tokenizer.config import TrainConfig, to_dict, to_toml

        assert tokenizer.quantizers.METHODS

        whole = to_toml(to_dict(TrainConfig(steps=9))).encode()
        given = b'preset = "small"\n[network]\ndownsample = 8\n[quantizer]\nname = "residual(4*diveq, drop=0.5)"\n'
        stages = b'[quantizer]\nname = "product"\n[[quantizer.stages]]\nname = "fsq"\nlevels = [8, 5]\n'
        pairs = b"lr=1e-3\nquantizer.name=ste(beta=1)\nnetwork.widths=8 8\nseed=7"
        return [whole, given + _MARK + pairs, stages + _MARK + b"quantizer.codebook_size=512", _MARK + pairs]

    def read(self, data: bytes) -> None:
        """Make the settings of a run of it, and the quantizer."""
        from cli.settings import fresh, gather
        from tokenizer.config import to_dict, to_toml
        from tokenizer.quantizers import build_quantizer, min_parameters

        path = self.scratch / "c.toml"
        text, _, pairs = data.partition(_MARK)
        path.write_bytes(text)
        config = fresh(gather({}, [], path, pairs.decode("utf-8", "surrogateescape").splitlines()))
        assert to_toml(to_dict(config))
        assert config.network.min_parameters > 0
        if min_parameters(config.quantizer, config.network.latent_dim) < 10**6:
            build_quantizer(config.quantizer, config.network.latent_dim)


class Manifest(Target):
    """What lies beside tokens: manifests, indexes, journals. The first line of an input says which."""

    name = "manifest"

    def make(self) -> list[bytes]:
        """Return one of each kind."""
        tokens = _tokens()
        write_tokens(self.scratch / "t.npy", tokens)
        self._beside = sidecar_of(self.scratch / "t.npy").read_bytes()
        _, _, lines = self._beside.partition(b"\n")
        for number in range(2):
            write_tokens(self.scratch / f"shards/s{number}.safetensors", tokens)
            write_tokens(
                self.scratch / f"tree/a/{number}.png.npy", TokenSet(tokens.header, tokens.images[:1], tokens.grids[:1])
            )
        shards = [{"name": f"s{number}.safetensors", "images": 2, "failed": 1} for number in range(2)]
        index = json.dumps({"format": "vqtok-index", "version": 1, "shards": shards}).encode()
        self._rows = b"".join(grid.astype("<u2").tobytes() for grid in tokens.grids)
        self._lines, self._header = lines, tokens.header
        state = self._state(lines)
        return [
            b"beside\n" + self._beside,
            b"index\n" + index,
            b"tree\n" + self._beside,
            b"lines\n" + lines,
            b"state\n" + state,
        ]

    def _state(self, lines: bytes) -> bytes:
        files = {"manifest": (len(lines), zlib.crc32(lines)), "rows": (len(self._rows), zlib.crc32(self._rows))}
        return json.dumps({"job": {}, "done": 3, "finished": False, "files": files}).encode()

    def read(self, data: bytes) -> None:
        """Read the kind that the first line names."""
        kind, _, text = data.partition(b"\n")
        if kind == b"beside":
            sidecar_of(self.scratch / "t.npy").write_bytes(text)
            read_all(read_tokens(self.scratch / "t.npy"))
        elif kind in (b"index", b"tree"):
            folder = self.scratch / ("shards" if kind == b"index" else "tree")
            (folder / ("index.json" if kind == b"index" else "manifest.jsonl")).write_bytes(text)
            self._folder(folder)
        else:
            self._journal(text, self._state(text) if kind == b"lines" else None)

    def _folder(self, folder: Path) -> None:
        found = find_token_files(folder)
        with contextlib.suppress(VqtokError):
            np.asarray(load_tokens(folder))
        counts = found.images or [None] * len(found.files)
        images = select_images(TokenFiles([TokenFile(*pair) for pair in zip(found.files, counts, strict=True)]))
        for record, grid in images.rows():
            assert grid.shape[:2] == record.grid

    def _journal(self, text: bytes, state: bytes | None) -> None:
        folder = self.scratch / "t.partial"
        folder.mkdir(exist_ok=True)
        (folder / "manifest").write_bytes(text if state else self._lines)
        (folder / "rows").write_bytes(self._rows)
        (folder / "journal.json").write_bytes(state or text)
        with Journal(folder, {}, resume=True) as journal:
            writer = StackWriter(journal, self._header, "safetensors")
            assert len(list(earlier_outcomes(journal))) == writer.images + writer.failed
            rows = list(writer.rows()) if writer.images else []
            assert len(rows) == writer.images
            read_all(read_tokens(b"".join(writer.pieces())))


TARGETS: dict[str, Callable[[Path], Target]] = {kind.name: kind for kind in (Tokens, Checkpoint, Config, Manifest)}
