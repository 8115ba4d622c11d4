"""The steps of a pipeline beside a model: `pipeline.json`, and whether their ends fit together.

Datatypes are the protocol's (FP32, INT64, BYTES …); shapes leave the batch out.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillhouse.errors import SourceError, SpecError
from stillhouse.inference.signature import Signature

__all__ = [
    "PIPELINE_FILE",
    "Step",
    "Tensor",
    "check_links",
    "ends_of",
    "field_of",
    "read_steps",
    "step_file",
    "used",
    "write_steps",
]

PIPELINE_FILE = "pipeline.json"
ANY = -1
"""A dimension that is not known yet."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """One end of a joint. `flat`: the graph's own tensor has the batch alone, for which `shape` says [1]."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    flat: bool = False

    def __str__(self) -> str:
        return f"{self.datatype} [{', '.join(('rows', *('?' if each == ANY else str(each) for each in self.shape)))}]"

    def fits(self, other: Tensor) -> bool:
        """Return whether one may be put where the other is wanted."""
        if self.datatype != other.datatype or len(self.shape) != len(other.shape):
            return False
        return all(ANY in (one, two) or one == two for one, two in zip(self.shape, other.shape, strict=True))


@dataclass(frozen=True, slots=True)
class Step:
    """A step: `inputs` maps its input to where that comes from, `outputs` its output to the name in the answer.

    `takes` are all inputs of its graph, `gives` all of the outputs that a server can answer.
    """

    name: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    takes: tuple[Tensor, ...]
    gives: tuple[Tensor, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Step:
        """Build from JSON data."""
        tensors = {
            role: tuple(Tensor(each["name"], each["datatype"], tuple(each["shape"]), each["flat"]) for each in data[role])
            for role in ("takes", "gives")
        }
        return cls(data["name"], dict(data["inputs"]), dict(data["outputs"]), **tensors)


def step_file(name: str) -> str:
    """Return the name of a step's graph in the artifact."""
    return f"step-{name}.onnx"


def write_steps(steps: Sequence[Step], folder: Path) -> None:
    """Write `pipeline.json` into `folder`."""
    data = {"version": 1, "steps": [step.to_json() for step in steps]}
    (folder / PIPELINE_FILE).write_text(json.dumps(data, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def read_steps(folder: Path) -> tuple[Step, ...]:
    """Read `pipeline.json` of an artifact; none where the model is alone.

    Raises:
        SourceError: it is not readable, or of another version.
    """
    path = folder / PIPELINE_FILE
    if not path.is_file():
        return ()
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["version"] != 1:
            raise ValueError(f"version {data['version']}")
        return tuple(Step.from_json(each) for each in data["steps"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SourceError(
            "the pipeline of this artifact is not readable",
            field=str(path),
            found=str(error),
            fix="build the model again with this version: still rebuild NAME",
        ) from error


def ends_of(signature: Signature, *, width_known: bool = True) -> dict[str, Tensor]:
    """Return what the first step can take of a model and of its request, by reference.

    `width_known`: whether the signature is that of the model which serves; an embedding's width may be another in a student.
    """
    image = signature.image
    if image is not None:
        found = {"request.IMAGE": Tensor("IMAGE", "FP32", (image.channels, image.height, image.width))}
    else:
        found = {"request.TEXT": Tensor("TEXT", "BYTES", (1,))}
    if signature.labels:
        found["PROBABILITIES"] = Tensor("PROBABILITIES", "FP32", (len(signature.labels),))
        found["LABEL"] = Tensor("LABEL", "BYTES", (1,))
    else:
        found["EMBEDDING"] = Tensor("EMBEDDING", "FP32", (signature.dimension if width_known else ANY,))
    return found


def check_links(ends: Mapping[str, Tensor], steps: Sequence[Step]) -> None:
    """Check every joint: each input of a step has a source, which exists and has its type and shape.

    Raises:
        SpecError: two ends do not fit; both are named.
    """
    known = dict(ends)
    for position, step in enumerate(steps):
        for tensor, source in step.inputs.items():
            wanted = next((each for each in step.takes if each.name == tensor), None)
            if wanted is None:
                raise SpecError(
                    "a step has no such input",
                    field=field_of(position, "inputs", tensor),
                    found=tensor,
                    allowed=_named(step.takes),
                    fix=f"name the inputs of step {step.name} as its graph does",
                )
            given = known.get(source)
            if given is None:
                raise SpecError(
                    "a step's input comes from a tensor that is not there",
                    field=field_of(position, "inputs", tensor),
                    found=source,
                    allowed=", ".join(sorted(known)),
                    fix="name one of these, or let the earlier step's graph give it as an output",
                )
            if not given.fits(wanted):
                raise SpecError(
                    "two ends of a pipeline do not fit together",
                    field=field_of(position, "inputs", tensor),
                    found=f"{source} gives {given}",
                    allowed=f"{tensor} of step {step.name} takes {wanted}",
                    fix="make the step for this model again: its graph must take what the model says",
                )
        missing = [each.name for each in step.takes if each.name not in step.inputs]
        if missing:
            raise SpecError(
                "an input of a step comes from nowhere",
                field=field_of(position, "inputs"),
                found=", ".join(missing),
                allowed=", ".join(sorted(known)),
                fix=f"add to inputs: {missing[0]}: one of the allowed",
            )
        given_names = {each.name for each in step.gives}
        for tensor in step.outputs:
            if tensor not in given_names:
                raise SpecError(
                    "a step has no such output",
                    field=field_of(position, "outputs", tensor),
                    found=tensor,
                    allowed=_named(step.gives),
                    fix=f"name the outputs of step {step.name} as its graph does; of sklearn-onnx: export with zipmap=False",
                )
        known |= {f"{step.name}.{each.name}": each for each in step.gives}


def field_of(position: int, *parts: str) -> str:
    """Return where a part of a step stands in the resource."""
    return ".".join((f"spec.pipeline.steps[{position}]", *parts))


def used(steps: Sequence[Step]) -> Iterator[tuple[Step, tuple[Tensor, ...]]]:
    """Yield each step with those of its outputs that somebody sees: the client, or a later step."""
    asked = {source for step in steps for source in step.inputs.values()}
    for step in steps:
        yield step, tuple(each for each in step.gives if each.name in step.outputs or f"{step.name}.{each.name}" in asked)


def _named(tensors: Sequence[Tensor]) -> str:
    return ", ".join(f"{each.name} ({each})" for each in tensors) or "none"
