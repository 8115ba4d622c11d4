"""Steps one behind the other, checked when they are loaded: what reaches a step has a type and a rank that it takes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillhouse.digests import content_digest
from stillhouse.errors import DataError, SourceError, SpecError, StillhouseError
from stillhouse.inference.datatypes import Tensor, TensorSpec
from stillhouse.inference.preprocess.base import Around, Step
from stillhouse.inference.preprocess.config import read
from stillhouse.inference.preprocess.manifest import STEPS, load_step

__all__ = ["CHAIN_FILE", "Chain", "load_chain", "read_chain"]

CHAIN_FILE = "preprocess.json"
VERSION = 1
_FIX = "still edge FILE writes them anew; in a cluster: build the model again"
_MOST_STEPS = 16


@dataclass(frozen=True, slots=True)
class Chain:
    """Loaded steps. `inputs` and `outputs` answer metadata; `run` may be called from several threads at once.

    An input is what no earlier step gives; an output what no later step takes. A step may give a tensor of the name that it took.
    """

    steps: tuple[Step[Any], ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    digest: str

    def run(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the outputs by name.

        Raises:
            DataError: a tensor is missing, has another type or shape, or holds what a step cannot use.
        """
        names = {each.name for each in self.inputs}
        if set(tensors) != names:
            found, allowed = ", ".join(sorted(tensors))[:200], ", ".join(sorted(names))
            raise DataError("these are not the tensors that the steps take", field="inputs", found=found, allowed=allowed)
        for spec in self.inputs:
            spec.check(tensors[spec.name])
        pool = dict(tensors)
        for step in self.steps:
            taken = {each.name: pool[each.name] for each in step.inputs}
            given = step.run(taken)
            for name in taken:
                del pool[name]
            pool.update(given)
        return {spec.name: pool[spec.name] for spec in self.outputs}


def load_chain(data: Any, around: Around, field: str = "steps") -> Chain:
    """Load `{"version": 1, "inputs": [{name, datatype, shape}…], "steps": [{kind, …}…]}`.

    `inputs` says more of what comes in (another type, a fixed shape) than the steps know by themselves; it may be left out.

    Raises:
        SpecError: a field is wrong, or a step does not take what reaches it; `field` names step and tensor.
        SourceError, UnsafeSource: a tokenizer or a function cannot be used.
    """
    if not isinstance(data, dict) or data.get("version") != VERSION or set(data) - {"version", "inputs", "steps"}:
        raise SourceError(
            "these steps have another version or form",
            field=field,
            found=str(data)[:80],
            allowed=f"version {VERSION}",
            fix=_FIX,
        )
    listed = data.get("steps")
    if not isinstance(listed, list) or not 1 <= len(listed) <= _MOST_STEPS:
        raise SpecError("a list of steps belongs here", field=field, found=str(listed)[:80], allowed=f"1 to {_MOST_STEPS} steps")
    declared = data.get("inputs", [])
    if not isinstance(declared, list) or len(declared) > _MOST_STEPS:
        raise SpecError("a list of tensors belongs here", field="inputs", found=str(declared)[:80])
    wanted = [read(TensorSpec, each, f"inputs[{n}]") for n, each in enumerate(declared)]
    steps = tuple(_step(each, around, f"{field}[{n}]") for n, each in enumerate(listed))
    inputs, outputs = _joined(steps, wanted, field)
    whole = {"version": VERSION, "inputs": [each.to_json() for each in inputs], "steps": [each.to_json() for each in steps]}
    return Chain(steps, inputs, outputs, content_digest(whole))


def read_chain(folder: Path, allowed: frozenset[str] = frozenset()) -> Chain | None:
    """Load `preprocess.json` of a model's folder; None where there is none.

    Raises:
        SourceError: it is not readable; and as `load_chain`.
    """
    path = folder / CHAIN_FILE
    if not path.is_file():
        return None
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise SourceError("the steps are not readable", field=str(path), found=str(error)[:200], fix=_FIX) from error
    return load_chain(data, Around(folder, allowed))


def _step(data: Any, around: Around, field: str) -> Step[Any]:
    kind = data.get("kind") if isinstance(data, dict) else None
    if not isinstance(kind, str) or kind not in STEPS:
        raise SpecError("no such step", field=f"{field}.kind", found=str(kind)[:80], allowed=", ".join(STEPS))
    made = load_step(kind)
    config = read(made.config_type, {name: value for name, value in data.items() if name != "kind"}, field)
    try:
        step: Step[Any] = made(config, around)
    except StillhouseError as error:
        _place(error, field)
        raise
    return step


def _joined(
    steps: Sequence[Step[Any]], declared: Sequence[TensorSpec], field: str
) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Return inputs and outputs of the whole."""
    said = {each.name: each for each in declared}
    inputs: dict[str, TensorSpec] = {}
    pool: dict[str, TensorSpec] = {}
    for position, step in enumerate(steps):
        given: dict[str, TensorSpec] = {}
        for own in step.inputs:
            if own.name not in pool:
                if own.name in inputs:
                    raise SpecError("an earlier step has taken this tensor", field=f"{field}[{position}].{own.name}")
                inputs[own.name] = pool[own.name] = said.pop(own.name, own)
            given[own.name] = pool[own.name]
        try:
            made = step.outputs(given)
        except SpecError as error:
            _place(error, f"{field}[{position}]")
            raise
        for name in given:
            del pool[name]
        for spec in made:
            if spec.name in pool:
                raise SpecError("two steps give a tensor of this name", field=f"{field}[{position}].{spec.name}")
            pool[spec.name] = spec
    if said:
        raise SpecError("no step takes this tensor", field="inputs", found=", ".join(said), allowed=", ".join(inputs))
    return tuple(inputs.values()), tuple(pool.values())


def _place(error: StillhouseError, field: str) -> None:
    error.problem = dataclasses.replace(error.problem, field=f"{field}.{error.problem.field}")
