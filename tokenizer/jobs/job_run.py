"""A job on its way."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from pathlib import Path

from tokenizer.jobs.one_file import is_unfinished
from tokenizer.jobs.outcomes import Outcome, Totals
from tokenizer.models import LoadedModel


class JobRun:
    """A job on its way: iterating over it, once, does the work and yields what became of each input.

    Leaving the loop early stops the work; what is done is kept where the same call with `existing="resume"` can go on.

    Args:
        outcomes: what does the work.
        model: the checkpoint.
        total: how many outcomes there will be, where that is known.
        path: where the results go; None for a stream.
        warnings: what to tell of the inputs, one line each.

    Attributes:
        totals: of the outcomes so far.
    """

    def __init__(
        self,
        outcomes: Generator[Outcome],
        model: LoadedModel,
        total: int | None,
        path: Path | None,
        warnings: tuple[str, ...] = (),
    ) -> None:
        self._outcomes, self.model, self.total, self.path, self.warnings = outcomes, model, total, path, warnings
        self.totals = Totals()

    def __iter__(self) -> Generator[Outcome]:
        """Do the work, and yield what becomes of each input."""
        with contextlib.closing(self._outcomes):
            for outcome in self._outcomes:
                self.totals.add(outcome)
                yield outcome

    @property
    def is_resumable(self) -> bool:
        """Whether something is done, and was left for the same call with `existing="resume"` to go on with."""
        if self.path is None or not self.totals.images:
            return False
        return self.path.is_dir() or is_unfinished(self.path)

    def close(self) -> None:
        """Stop the work, if it is not done: temporary files go, locks are released."""
        self._outcomes.close()
