"""What can be told of data before it is imported: whether its columns will do, and whether the gate's rows were trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from stillhouse.api.model import Spec
from stillhouse.api.source import TEXT_TASKS, DataSource, ModelSource, columns_of
from stillhouse.clients.sources.access import unreadable
from stillhouse.errors import DataError, Problem, StillhouseError
from stillhouse.passes.evaluate.columns import check_labels, check_roles, judged_by_labels
from stillhouse.passes.sources.columns import SHOWN, Role, choose, need_of
from stillhouse.passes.sources.features import choose_features
from stillhouse.passes.sources.header import header
from stillhouse.passes.sources.limits import FeaturesConfig
from stillhouse.passes.sources.reading import data_files
from stillhouse.planning.request import data_sources

__all__ = ["Seen", "lacking", "preview", "refuse_same"]

_GATE, _VALIDATION, _TRAINING = "spec.gate.data", "spec.distill.validation", "spec.distill.data"
_APART = (
    (_GATE, _TRAINING),
    (_GATE, "spec.compress.calibration"),
    (_GATE, _VALIDATION),
    (_VALIDATION, _TRAINING),
    (_GATE, "spec.distill.unlabelled"),
    (_VALIDATION, "spec.distill.unlabelled"),
    (_GATE, "spec.source.fineTune.data"),
    (_GATE, "spec.source.fineTune.validation"),
    (_VALIDATION, "spec.source.fineTune.data"),
    ("spec.source.fineTune.validation", "spec.source.fineTune.data"),
)
"""What judges must hold no row of what was learned from or tuned on: (judge, other) each."""


@dataclass(frozen=True, slots=True)
class Seen:
    """The columns of data: those that play a role (role → column), and the others."""

    roles: Mapping[Role, str]
    unused: tuple[str, ...] = ()


def preview(place: str, data: DataSource, path: Path, source: ModelSource | None = None) -> Seen | None:
    """Return the columns of the data that stands at `place`, None where only the import can tell.

    Raises:
        SourceError, DataError: what the import would say, its fields relative (`data.columns.text`).
    """
    try:
        there = header(path)
    except OSError as error:
        raise unreadable(error, data.uri, "data.uri") from error
    if there is None:
        return None
    named: Mapping[Role, str] = columns_of(data)  # type: ignore[assignment]  # the resource has no other roles
    if source is not None and source.features is not None:
        form = source.features
        config = FeaturesConfig(columns=form.columns, length=form.length, channels=form.channels or 1)
        chosen = choose_features(named, there, config)
        used = {*chosen.roles.values(), *chosen.features}
        shown: dict[Role, str] = {"features": ", ".join(chosen.features), **chosen.roles}
        return Seen(shown, tuple(name for name in there if name not in used))
    images = None if source is None else source.task == "image-classification"
    roles = choose(named, there, need_of(place), images=images)
    return Seen(roles, tuple(name for name in there if name not in roles.values()))


def lacking(spec: Spec, seen: Mapping[str, Seen | None]) -> Iterator[DataError]:
    """Yield what the gate's metrics and the stages' losses lack: they would say so only after all training."""
    gate, training = seen.get(_GATE), seen.get(_TRAINING)
    if spec.gate and gate:
        metrics = [metric.name for metric in spec.gate.metrics]
        roles = list(gate.roles)
        try:
            if spec.source.task in TEXT_TASKS:
                check_roles(roles, gate.unused, metrics)
            if (judging := judged_by_labels(metrics)) is not None:
                check_labels(roles, gate.unused, _GATE, f"metric {judging}")
        except DataError as error:
            yield error
    tuning = seen.get("spec.source.fineTune.data")
    if tuning:
        try:
            check_labels(list(tuning.roles), tuning.unused, "spec.source.fineTune.data", "fineTune")
        except DataError as error:
            yield error
    if spec.distill and training:
        stages = [*spec.distill.stages, *(stage for each in spec.distill.assistants for stage in each.stages)]
        losses = [loss for stage in stages for loss in stage.losses]
        labelled = next((loss for loss in losses if loss.kind == "hard" or loss.class_weights is not None), None)
        if labelled is not None:
            try:
                check_labels(list(training.roles), training.unused, _TRAINING, f"loss {labelled.kind}")
            except DataError as error:
                yield error


def refuse_same(spec: Spec, paths: Mapping[str, Path], seen: Mapping[str, Seen | None], digest: Callable[[Path], str]) -> None:
    """Refuse what judges (gate, validation) where it reads the same columns of the same file as what is judged by it.

    Wherever the copy lies: files are compared by their contents.

    `paths` and `seen`: what stands at each place, as far as it is known; `digest` tells files apart.

    Raises:
        DataError: it does; `others` holds the further ones.
    """
    data = data_sources(spec)
    problems = []
    for judge, other in _APART:
        known = {judge, other} <= seen.keys()
        if not known or not _same_columns(data[judge], data[other], seen[judge], seen[other]):
            continue
        theirs = {digest(file) for file in _read(data[other], paths[other])}
        shared = next((file for file in _read(data[judge], paths[judge]) if digest(file) in theirs and _has_rows(file)), None)
        if shared is not None:
            problems.append(
                Problem(
                    f"the data leaks: the rows of {judge} are also in {other}",
                    field=f"{judge}.uri",
                    found=f"{shared} is also what {other}.uri names: {data[other].uri}",
                    allowed="splits that share no text (case and white space do not count)",
                    fix=f"split the rows into two files and name one in {judge}.uri, the other in {other}.uri",
                )
            )
    if problems:
        raise DataError.of(problems)


def _same_columns(a: DataSource, b: DataSource, found_a: Seen | None, found_b: Seen | None) -> bool:
    """Say whether a model is shown one column in both. Queries in one and their documents in the other may well differ."""
    if found_a is None or found_b is None:
        return columns_of(a) == columns_of(b)
    shown = [{column for role, column in found.roles.items() if role in SHOWN} for found in (found_a, found_b)]
    return bool(shown[0] & shown[1])


def _read(data: DataSource, path: Path) -> list[Path]:
    """Return the files of which the first row, at least, is read."""
    files = data_files(path)
    return files if data.max_rows is None else files[:1]


def _has_rows(file: Path) -> bool:
    """Say whether a file holds anything that can leak: empty parts of two folders are alike."""
    try:
        header(file)
    except (StillhouseError, OSError):
        return False
    return True
