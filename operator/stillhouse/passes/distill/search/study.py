"""Which shape is tried next: Optuna's multi-objective TPE, kept in a journal so that a search goes on where it was stopped.

Ozaki et al. 2020, "Multiobjective Tree-Structured Parzen Estimator for Computationally Expensive Optimization Problems".
"""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import Trial, TrialState

from stillhouse.passes.distill.search.shapes import Limits, Tried

__all__ = ["Study"]

_TRIED: Final = "tried"
_METRIC: Final = "metric"
_STARTUP: Final = 5
"""Shapes of chance before the sampler has something to go by."""
_REPEATS: Final = 20
"""How often the sampler may come upon a shape that was tried before it is taken for being through."""


class Study:
    """What was tried, and what is tried next."""

    def __init__(self, journal: Path, space: Mapping[str, Sequence[int]], limits: Limits, seed: int) -> None:
        """Open the journal, or begin one. A trial that was under way when its process died is the next one again."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._space = {name: sorted(set(values)) for name, values in space.items()}
        self._limits, self._seed = limits, seed
        _mend(journal)
        lock = JournalFileOpenLock(str(journal))
        Path(f"{journal}.lock").unlink(missing_ok=True)  # of a process that died: a step has one process at a time
        self._study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(journal), lock_obj=lock)),
            study_name="shapes",
            directions=["maximize", "minimize"],
            load_if_exists=True,
        )
        self._running: Trial | None = None
        for trial in self._study.get_trials(states=[TrialState.RUNNING]):
            self._study.tell(trial.number, state=TrialState.FAIL)
            if trial.params:
                self._study.enqueue_trial(trial.params)

    @property
    def tried(self) -> list[Tried]:
        """Return what was measured, in order, each shape once."""
        found: dict[tuple[int, ...], Tried] = {}
        for trial in self._study.get_trials(states=[TrialState.COMPLETE]):
            found.setdefault(tuple(trial.params.values()), Tried.from_json(trial.user_attrs[_TRIED]))
        return list(found.values())

    @property
    def metric(self) -> str:
        """Return what quality is measured in, as far as a trial has told."""
        return str(self._study.user_attrs.get(_METRIC, "quality"))

    def judged_by(self, metric: str) -> None:
        """Keep what quality is measured in: a search that goes on may have no trial left that tells."""
        if self.metric != metric:
            self._study.set_user_attr(_METRIC, metric)

    @property
    def count(self) -> int:
        """Return how many shapes there are."""
        return math.prod(map(len, self._space.values()))

    def next(self) -> dict[str, int] | None:
        """Return a shape that was not tried; None where there is none, or the sampler finds none any more."""
        known = {tuple(each.shape.items()): each for each in self.tried}
        if len(known) >= self.count:
            return None
        for _ in range(_REPEATS):
            number = len(self._study.get_trials(deepcopy=False, states=[TrialState.COMPLETE]))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                # A sampler for every trial, seeded by how many were measured: going on gives what not stopping would have given.
                self._study.sampler = TPESampler(seed=self._seed + number, n_startup_trials=_STARTUP, multivariate=True)
            trial = self._study.ask()
            shape = {name: int(trial.suggest_categorical(name, values)) for name, values in self._space.items()}
            self._running = trial
            before = known.get(tuple(shape.items()))
            if before is None:
                return shape
            self.tell(before)
        return None

    def tell(self, tried: Tried) -> None:
        """Keep what was measured of the shape that `next` gave."""
        assert self._running is not None
        trial, self._running = self._running, None
        trial.set_user_attr(_TRIED, tried.to_json())
        trial.set_constraint("limits", self._limits.over(tried))
        # What misses the limits is ordered by how much it does, whatever its values are, and always behind the others.
        quality = 0.0 if tried.quality is None else tried.quality
        self._study.tell(trial, [quality, tried.latency])


def _mend(journal: Path) -> None:
    """Cut off what a full disk or a power cut left of the last line; behind it nothing could be read any more."""
    if not journal.is_file():
        return
    content = journal.read_bytes()
    whole = 0
    for line in content.splitlines(keepends=True):
        try:
            json.loads(line)
        except ValueError:
            break
        if not line.endswith(b"\n"):
            break
        whole += len(line)
    if whole < len(content):
        os.truncate(journal, whole)
