"""Which token files a folder holds: shards, a tree of one file an image, or anything."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from tokenizer.errors import InputError, TokenFileError
from tokenizer.files import safe_name
from tokenizer.tokens.journal import PARTIAL_SUFFIX
from tokenizer.tokens.manifest import FailedInput
from tokenizer.tokens.token_files import TOKEN_SUFFIXES, parse_sidecar

INDEX_FILE = "index.json"
INDEX_FORMAT = "vqtok-index"
INDEX_VERSION = 1
MANIFEST_FILE = "manifest.jsonl"
DONE_SUFFIX = ".done"
_MOST_IMAGES = 2**40


@dataclass(frozen=True)
class TokenFolder:
    """The token files of a folder, sub-folders and all.

    Attributes:
        files: their paths, in the order in which the images were encoded where the folder says it, else sorted.
        images: how many images each holds, where an index says it.
        finished: whether whoever writes shards there is done.
        failed: inputs that have no tokens, where they are listed beside the files and not in them.
    """

    files: Sequence[str]
    images: Sequence[int] | None = None
    finished: bool = True
    failed: Sequence[FailedInput] = ()


def find_token_files(folder: Path) -> TokenFolder:
    """Return the token files of a folder; of unfinished shards, those that are whole.

    What begins with a dot is left out, files and folders.

    Raises:
        InputError: it holds none or cannot be listed, or its index is damaged.
    """
    if (folder / INDEX_FILE).exists():
        return _shards(folder)
    if (folder / MANIFEST_FILE).exists():
        return _tree(folder)
    found: list[tuple[str, ...]] = []
    finished = True
    for parent, folders, names in os.walk(folder, onerror=_cannot_list):
        whole = _whole(names)
        finished &= INDEX_FILE in names or not any(
            name.endswith((DONE_SUFFIX, PARTIAL_SUFFIX)) for name in [*names, *folders]
        )
        folders[:] = [name for name in folders if not name.startswith(".") and not name.endswith(PARTIAL_SUFFIX)]
        parts = Path(parent).relative_to(folder).parts
        found += [(*parts, name) for name in whole if name.endswith(TOKEN_SUFFIXES) and not name.startswith(".")]
    if not found:
        raise InputError(f"no token files in {folder}: looked for {' '.join(TOKEN_SUFFIXES)}")
    return TokenFolder([str(folder.joinpath(*parts)) for parts in sorted(found)], finished=finished)


def _whole(names: Sequence[str]) -> Sequence[str]:
    """Return the names that have a mark, where there are marks: others may be of an earlier job."""
    marked = {name.removesuffix(DONE_SUFFIX) for name in names if name.endswith(DONE_SUFFIX)}
    return [name for name in names if Path(name).stem in marked] if marked else names


def _shards(folder: Path) -> TokenFolder:
    try:
        values = json.loads((folder / INDEX_FILE).read_text("utf-8"))
        if values["format"] != INDEX_FORMAT or int(values["version"]) > INDEX_VERSION:
            raise InputError(
                f"{folder / INDEX_FILE} is of a newer vqtok, or another program's: upgrade vqtok, or move it"
            )
        images = _images(values["shards"])
    except OSError as error:
        raise InputError(f"cannot read {folder / INDEX_FILE}: {error.strerror or error}") from error
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError, RecursionError) as error:
        reason = " ".join(f"{type(error).__name__} {error}".split())
        raise InputError(f"{folder / INDEX_FILE} is damaged, or no index of shards: {reason}") from error
    held = {name: count for name, count in images.items() if count}  # a shard without an image is no file
    return TokenFolder([str(folder / name) for name in held], list(held.values()))


def _images(shards: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Return how many images each shard holds; KeyError, TypeError or ValueError where that is none."""
    images = {_name(shard["name"]): _count(shard["images"]) for shard in shards}
    if len(images) < len(shards):
        raise ValueError("a shard is named twice")
    return images


def _name(value: Any) -> str:
    if not isinstance(value, str) or Path(value).name != value or value in ("", "..") or b"\0" in os.fsencode(value):
        raise ValueError(f"{value!r:.80} is no name of a shard")
    return value


def _count(value: Any) -> int:
    count = int(value)
    if not 0 <= count <= _MOST_IMAGES:
        raise ValueError(f"a shard of {count} images")
    return count


def _tree(folder: Path) -> TokenFolder:
    path = folder / MANIFEST_FILE
    try:
        manifest = parse_sidecar(np.fromfile(path, np.uint8), f"{path}: ")[1]
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except TokenFileError as error:
        raise TokenFileError(f"{path}: {error}") from error
    stems = [str(folder / safe_name(image.name)) for image in manifest.images]
    suffix = next(
        (suffix for suffix in TOKEN_SUFFIXES if stems and Path(stems[0] + suffix).exists()), TOKEN_SUFFIXES[0]
    )
    return TokenFolder([stem + suffix for stem in stems], [1] * len(stems), failed=manifest.failed)


def _cannot_list(error: OSError) -> NoReturn:
    raise InputError(f"cannot list the folder {error.filename}: {error.strerror}") from error
