"""What a built cascade says: whose confidence, up to which threshold, what an unusual input is. Loaded once, checked whole."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn, get_args

from stillhouse.edge.cascade.search import Index, read_index
from stillhouse.errors import SourceError
from stillhouse.inference.confidence import Calibration
from stillhouse.inference.outliers import OutlierRule
from stillhouse.inference.signature import Task

__all__ = ["CASCADE_FILE", "Policy", "load"]

CASCADE_FILE = "cascade.json"
_NAMES_FILE = "names.json"
_EDGE_FILE, _LARGER_FILE = "edge.npy", "larger.npy"
_VERSION = 1
_MOST_K = 1000
_SHOWN = 10**100
"""A number from which on it is not shown: Python refuses to write the longest ones."""
_FIX = "build the model again: still rebuild NAME"
_SEARCHED = ("peak", "margin", "top")
"""Signals of a search whose answer is the nearest row's name."""


@dataclass(frozen=True, slots=True)
class Policy:
    """When a stage's answer stands. `threshold` is infinite where everything goes on.

    `edge`, `larger`: for sentence embeddings the index of this stage's model and that of the next one; else None. `k`: how many
    neighbours a client gets; 0 without retrieval. `solved`: how the threshold was found, as it was written. `middle`: of
    the model that is asked between this one and the last one, None where there is none.
    """

    task: Task
    variant: str
    digest: str
    calibration: Calibration
    threshold: float
    outliers: OutlierRule | None = None
    k: int = 0
    edge: Index | None = None
    larger: Index | None = None
    stages: int = 1
    solved: Mapping[str, Any] = field(default_factory=dict)
    middle: Policy | None = None

    @property
    def needs_logits(self) -> bool:
        """Return whether unusual inputs are told by logits, which a server that answers probabilities does not give."""
        return self.outliers is not None and self.outliers.kind == "energy"


def load(folder: Path, digest: str) -> Policy:
    """Load a cascade's folder for the model with this digest.

    Raises:
        SourceError: a file is missing or damaged, or it was made for another model.
    """
    path = folder / CASCADE_FILE
    data = _json(path)
    if not isinstance(data, dict):
        _wrong(path, "", type(data).__name__, "an object")
    if data.get("version") != _VERSION:
        _wrong(path, "version", data.get("version"), str(_VERSION))
    task = _text(path, data, "task")
    if task not in get_args(Task):
        _wrong(path, "task", task, ", ".join(get_args(Task)))
    own = _text(path, data, "digest")
    if own != digest:
        raise SourceError(
            "the cascade was calibrated for another model",
            field=f"{path}: digest",
            found=own,
            allowed=digest,
            fix="a calibration belongs to one model: still rebuild NAME, or give the model that it was made with",
        )
    stages = data.get("stages", 1)
    if isinstance(stages, bool) or not isinstance(stages, int) or not 1 <= stages <= 8:
        _wrong(path, "stages", stages, "a number from 1 to 8")
    policy = Policy(
        task=task,  # type: ignore[arg-type]
        variant=_text(path, data, "variant"),
        digest=own,
        calibration=_part(path, data, "calibration", Calibration.from_json),
        threshold=_threshold(path, data),
        outliers=None if data.get("outliers") is None else _part(path, data, "outliers", OutlierRule.from_json),
        stages=stages,
        solved=data["solved"] if isinstance(data.get("solved"), dict) else {},
    )
    return _searching(policy, folder, path, data) if task == "sentence-embedding" else _classifying(policy, path, data)


def _classifying(policy: Policy, path: Path, data: Mapping[str, Any]) -> Policy:
    if policy.calibration.signal != "logits":
        _wrong(path, "calibration.signal", policy.calibration.signal, "logits, for a classifier")
    if data.get("retrieval") is not None:
        _wrong(path, "retrieval", "a search", f"null, for {policy.task}")
    if policy.outliers is not None and policy.outliers.kind != "energy":
        _wrong(path, "outliers.kind", policy.outliers.kind, "energy, for a classifier")
    return policy if data.get("middle") is None else replace(policy, middle=_middle(policy, path, data["middle"]))


def _middle(policy: Policy, path: Path, data: Any) -> Policy:
    if not isinstance(data, dict):
        _wrong(path, "middle", type(data).__name__, "an object")
    calibration = _part(path, data, "calibration", Calibration.from_json)
    if calibration.signal != "logits":
        _wrong(path, "middle.calibration.signal", calibration.signal, "logits, for a classifier")
    variant, digest = _text(path, data, "variant"), _text(path, data, "digest")
    return Policy(policy.task, variant, digest, calibration, _threshold(path, data))


def _searching(policy: Policy, folder: Path, path: Path, data: Mapping[str, Any]) -> Policy:
    retrieval = data.get("retrieval")
    k = retrieval.get("k") if isinstance(retrieval, dict) else None
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= _MOST_K:
        _wrong(path, "retrieval.k", k, f"a number from 1 to {_MOST_K}: what an embedding is worth, a search alone tells")
    if policy.calibration.signal not in _SEARCHED:
        _wrong(path, "calibration.signal", policy.calibration.signal, ", ".join(_SEARCHED))
    if policy.calibration.neighbours > _MOST_K:
        _wrong(path, "calibration.parameters.neighbours", policy.calibration.neighbours, f"at most {_MOST_K}")
    names = _names(folder / _NAMES_FILE)
    wide = max(k, policy.calibration.neighbours)
    edge = read_index(folder / _EDGE_FILE, names, wide)
    larger = read_index(folder / _LARGER_FILE, names, wide)
    rule = policy.outliers
    if rule is not None and rule.kind == "energy":
        _wrong(path, "outliers.kind", rule.kind, "centroid, nearest: embeddings have no logits")
    if rule is not None and rule.kind == "centroid" and len(rule.centroid) != edge.dimension:
        _wrong(path, "outliers.centroid", f"{len(rule.centroid)} numbers", f"{edge.dimension}, as {_EDGE_FILE} has")
    return Policy(
        policy.task, policy.variant, policy.digest, policy.calibration, policy.threshold, rule, min(k, len(names)), edge, larger,
        policy.stages, policy.solved,
    )  # fmt: skip


def _names(path: Path) -> tuple[bytes, ...]:
    data = _json(path)
    if not isinstance(data, list) or not data or not all(isinstance(each, str) for each in data):
        _wrong(path, "", "something else", "a list of texts, the names of the rows")
    try:
        return tuple(each.encode() for each in data)
    except UnicodeEncodeError as error:
        _wrong(path, "", str(error), "texts that UTF-8 can hold")


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_number)
    except (OSError, ValueError, RecursionError) as error:
        raise SourceError("the cascade is not readable", field=str(path), found=str(error), fix=_FIX) from error


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")


def _text(path: Path, data: Mapping[str, Any], name: str) -> str:
    value = data.get(name)
    if not isinstance(value, str) or not value:
        _wrong(path, name, value, "a text")
    return value


def _threshold(path: Path, data: Mapping[str, Any]) -> float:
    if "threshold" not in data:
        _wrong(path, "threshold", "nothing", "a number, or null where everything goes on")
    value = data["threshold"]
    if value is None:
        return math.inf
    try:
        threshold = float(value) if type(value) in (int, float) else math.nan
    except OverflowError:
        threshold = math.inf
    if not math.isfinite(threshold):
        _wrong(path, "threshold", value, "a number, or null where everything goes on")
    return threshold


def _part(path: Path, data: Mapping[str, Any], name: str, read: Any) -> Any:
    try:
        return read(data.get(name))
    except SourceError as error:
        problem = error.problem
        _wrong(path, name if problem.field == name else f"{name}.{problem.field}", problem.found, problem.allowed)
    except AttributeError as error:
        _wrong(path, name, str(error), "an object")


def _wrong(path: Path, name: str, found: object, allowed: str) -> NoReturn:
    field_ = f"{path}: {name}" if name else str(path)
    shown = "a giant number" if isinstance(found, int) and abs(found) >= _SHOWN else str(found)[:200]
    raise SourceError("the cascade is damaged", field=field_, found=shown or "nothing", allowed=allowed, fix=_FIX)
