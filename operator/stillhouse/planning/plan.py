"""The plan: an ordered list of steps grouped into stages, each with a content hash."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stillhouse.digests import content_hash
from stillhouse.planning.manifest import PASSES, PassEntry, Stage

__all__ = ["STAGES", "Environment", "Pin", "Plan", "Step", "StepDraft", "seal"]

STAGES: tuple[Stage, ...] = ("resolve", "train", "compress", "gate")


@dataclass(frozen=True, slots=True)
class Pin:
    """What a URI points to at this moment.

    `digest` is over the bytes that are used, `size` their number; `info` holds what can be told cheaply: `rows` of
    data; `format` (`safetensors` or `onnx`) of a model, and what its config.json tells: `hiddenSize`, `layers`, `heads`,
    `intermediateSize`, `vocabularySize`.
    """

    digest: str
    size: int = 0
    info: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Environment:
    """What a plan depends on beside the file.

    `pins` maps each URI of the spec to what it points to; `toolchain` import name → version; `hardware` is what
    measurements depend on (CPU model, ISA flags, …); `cpus` how many CPUs this machine gives; `rebuild` a token that
    makes every step new (empty: none); `reduce_range` whether INT8 needs 7 bits on this CPU (AVX2 without VNNI). `server` is
    what measurements through the server depend on where it has a container of its own (None: `hardware`).
    """

    pins: Mapping[str, Pin]
    toolchain: Mapping[str, str] = field(default_factory=dict)
    hardware: Mapping[str, Any] = field(default_factory=dict)
    cpus: float = 1.0
    rebuild: str = ""
    reduce_range: bool = False
    server: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class StepDraft:
    """A step before its hash is known: `parents` maps role → step id, `uri` is what an import reads.

    `places`: fields as passes name them (`spec.distill.stages[]`) → where they stand in this file. They are for messages and
    no part of the key: a stage is the same work whichever number it has.
    """

    id: str
    stage: Stage
    pass_name: str
    config: Mapping[str, Any]
    parents: Mapping[str, str] = field(default_factory=dict)
    uri: str = ""
    places: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Step:
    """A step of a plan. `key` is its content hash; equal keys give equal results (measuring steps: on equal hardware).

    `places`: as its draft's.
    """

    id: str
    stage: Stage
    pass_name: str
    version: int
    config: Mapping[str, Any]
    parents: Mapping[str, str]
    key: str
    uri: str = ""
    measures: bool = False
    places: Mapping[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """What the step is called in front of people: the id without its stage."""
        return self.id.partition("/")[2]


@dataclass(frozen=True, slots=True)
class Plan:
    """All steps, parents before children. `targets` are the ids whose results are wanted; `notes` are for the user.

    `file_hash`: of what the file alone asks for, whatever its names are bound to.
    """

    name: str
    steps: tuple[Step, ...]
    targets: tuple[str, ...]
    request_hash: str
    file_hash: str = ""
    notes: tuple[str, ...] = ()

    @property
    def plan_hash(self) -> str:
        """The hash over every step's key."""
        return content_hash(sorted(step.key for step in self.steps))

    def step(self, step_id: str) -> Step:
        """Return a step by its id."""
        return next(step for step in self.steps if step.id == step_id)

    def find(self, step_id: str) -> Step | None:
        """Return a step by its id, or None."""
        return next((step for step in self.steps if step.id == step_id), None)

    def missing(self, done: Callable[[Step], bool]) -> tuple[Step, ...]:
        """Return the steps that must run, parents first: what the targets lack, and what that needs in turn."""
        wanted: set[str] = set()
        stack = list(self.targets)
        while stack:
            step = self.step(stack.pop())
            if step.id not in wanted and not done(step):
                wanted.add(step.id)
                stack.extend(step.parents.values())
        return tuple(step for step in self.steps if step.id in wanted)

    def by_stage(self) -> Iterator[tuple[Stage, tuple[Step, ...]]]:
        """Yield the stages that have steps, in order."""
        for stage in STAGES:
            steps = tuple(step for step in self.steps if step.stage == stage)
            if steps:
                yield stage, steps


def seal(drafts: Sequence[StepDraft], env: Environment, passes: Mapping[str, PassEntry] = PASSES) -> tuple[Step, ...]:
    """Give every draft its key. Drafts come parents first; `passes` are those that exist."""
    keys: dict[str, str] = {}
    steps = []
    for draft in drafts:
        entry = passes[draft.pass_name]
        identity: dict[str, Any] = {
            "pass": entry.name,
            "version": entry.version,
            "config": draft.config,
            "parents": {role: keys[parent] for role, parent in draft.parents.items()},
            "toolchain": {name: env.toolchain.get(name, "") for name in entry.needs},
        }
        if entry.measures:
            identity["hardware"] = env.hardware if env.server is None or not entry.serves else env.server
        if env.rebuild and draft.stage != "resolve":
            identity["rebuild"] = env.rebuild
        keys[draft.id] = content_hash(identity)
        steps.append(
            Step(
                draft.id,
                draft.stage,
                entry.name,
                entry.version,
                draft.config,
                dict(draft.parents),
                keys[draft.id],
                draft.uri,
                entry.measures,
                dict(draft.places),
            )
        )
    return tuple(steps)
