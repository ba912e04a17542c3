"""How much of a run is spent, and what is due."""

from __future__ import annotations

import time

from tokenizer import runtime
from tokenizer.config import TrainConfig
from tokenizer.train.state import TrainingState

_EVALUATIONS = 8
_SECONDS_BETWEEN_EVALUATIONS = 30.0


class Budget:
    """Steps or minutes of one run, counted over all its sessions."""

    def __init__(self, config: TrainConfig, state: TrainingState) -> None:
        self._config, self._state = config, state
        self._began = time.perf_counter() - state.seconds
        self._saved_at = state.seconds
        self._evaluated = int(self.progress() * _EVALUATIONS)
        self._evaluated_at = state.seconds

    def progress(self) -> float:
        """Return the share spent, 0 to 1, and note the time in the state; all of it where patience ran out."""
        self._state.seconds = runtime.object_from_first_rank(time.perf_counter() - self._began)
        if self._config.patience and self._state.evaluations_since_best >= self._config.patience:
            return 1.0
        if self._config.steps is not None:
            return min(1.0, self._state.step / self._config.steps)
        return min(1.0, self._state.seconds / (60 * (self._config.minutes or 1)))

    def evaluation_due(self) -> bool:
        """Say whether to evaluate now: every `eval_every` steps, or eight times a run but at most twice a minute."""
        if self._config.eval_every:
            return self._state.step % self._config.eval_every == 0
        passed = int(self.progress() * _EVALUATIONS)
        waited = self._state.seconds - self._evaluated_at
        due = self._evaluated < passed < _EVALUATIONS and waited > _SECONDS_BETWEEN_EVALUATIONS
        if due:
            self._evaluated, self._evaluated_at = passed, self._state.seconds
        return due

    def save_due(self) -> bool:
        """Say whether `save_every` minutes have passed since the last time this was so."""
        due = self._state.seconds - self._saved_at > 60 * self._config.save_every
        if due:
            self._saved_at = self._state.seconds
        return due
