"""What a job yields: what became of each input, and the sums of that."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

# Where results go: a path, or a function that takes the bytes of a stream.
Output = str | os.PathLike[str] | Callable[[bytes], object]

# What an input that cannot be read does.
OnError = Literal["skip", "fail"]

_FAILURES_LISTED = 1000


@dataclass(frozen=True)
class Outcome:
    """What became of one image; or of a token file that cannot be decoded.

    Attributes:
        name: the image's, or the file's.
        reason: why it was not encoded or decoded; None when it was.
        kept: it was done before.
        has_more: it has further frames or pages, which were not encoded.
        path: of the picture that was decoded, where it has a file of its own.
    """

    name: str
    reason: str | None = None
    kept: bool = False
    has_more: bool = False
    path: Path | None = None


@dataclass
class Totals:
    """Sums over the outcomes so far.

    Attributes:
        images: that are done, now or before.
        kept: of these, that were done before.
        failed: inputs that were not encoded or decoded.
        first_frames: files with several frames or pages, of which the first was encoded.
        failures: the first 1000 of those that failed.
    """

    images: int = 0
    kept: int = 0
    failed: int = 0
    first_frames: int = 0
    failures: list[Outcome] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        """Add one."""
        self.kept += outcome.kept
        self.images += outcome.reason is None
        self.failed += outcome.reason is not None
        self.first_frames += outcome.has_more
        if outcome.reason is not None and len(self.failures) < _FAILURES_LISTED:
            self.failures.append(outcome)
