"""Names of images as paths that stay inside a folder."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from tokenizer.errors import OutputError

# Bytes of a name, and of each of its parts: systems allow 4,096 and 255, some of them less, with folder and suffixes.
_LONGEST_NAME, _LONGEST_PART, _LONGEST_SUFFIX = 1000, 220, 20


def safe_name(name: str) -> str:
    """Return a name without what would lead out of its folder, in parts that file systems can hold."""
    # NUL and halves of surrogate pairs, which no file name holds, go first: without them a part can be "..".
    name = re.sub("[\0\ud800-\udc7f\udd00-\udfff]", "", name).replace("\\", "/")
    name = re.sub("(^|/)([A-Za-z]):", r"\1\2_", name)  # a drive, to Windows
    parts = [_shortened(part) for part in name.split("/") if part not in ("", ".", "..")]
    whole = "/".join(parts) or "image"
    if len(whole) * 4 > _LONGEST_NAME and len(_bytes(whole)) > _LONGEST_NAME:
        return f"{_digest(whole)}/{parts[-1]}"
    return whole


def _shortened(part: str) -> str:
    """Return part of a name, or its start and its suffix with a digest of all of it between where it is too long."""
    if len(part) * 4 <= _LONGEST_PART or len(_bytes(part)) <= _LONGEST_PART:
        return part
    suffix = Path(part).suffix if len(_bytes(Path(part).suffix)) <= _LONGEST_SUFFIX else ""
    kept = _bytes(part)[: _LONGEST_PART // 2].decode("utf-8", "ignore")
    return f"{kept}~{_digest(part)}{suffix}"


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _digest(text: str) -> str:
    return hashlib.blake2b(_bytes(text), digest_size=8).hexdigest()


def path_beneath(folder: Path, name: str) -> Path:
    """Return where a name lies in a folder.

    Raises:
        OutputError: a link on the way there leads out of the folder.
    """
    path = folder / name
    root, parent = (os.path.realpath(place) for place in (folder, path.parent))
    if os.path.commonpath([root, parent]) != root:
        raise OutputError(f"{path.parent} leads out of {folder} through a link: remove the link")
    return path
