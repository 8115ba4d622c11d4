"""What a pass is: an author writes `run`, everything else belongs to the runner."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:  # it loads numpy, and whoever plans needs none
    from stillhouse.clients.inference import InferenceClient

__all__ = [
    "ONE_WORKER", "Artifact", "CandidateServer", "Context", "Pass", "PassConfig", "Progress", "Served", "Settled",
    "SilentProgress", "Workers",
]  # fmt: skip


class PassConfig(BaseModel):
    """Base of a pass's configuration: JSON data, no unknown fields, never changed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Progress(Protocol):
    """Where a pass says how far it is. Calls are cheap; the display decides what to draw."""

    def update(self, done: float, total: float | None = None, unit: str = "", message: str = "") -> None:
        """Report `done` of `total` (None: not known) in `unit`, for example 3, 12, "shards"."""

    def note(self, message: str) -> None:
        """Say something worth a line of its own, for example a figure that was measured."""


class SilentProgress:
    """A progress that nobody watches."""

    def update(self, done: float, total: float | None = None, unit: str = "", message: str = "") -> None:
        """Do nothing."""

    def note(self, message: str) -> None:
        """Do nothing."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """A step's output: a read-only directory of data.

    `digest` is `sha256:…` over the contents, `kind` one of the kinds of docs/design/20261122-contracts.md,
    `size` the bytes of all files, `facts` what the pass that made it found out (JSON data of its facts class).
    """

    digest: str
    kind: str
    path: Path
    size: int
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Served:
    """A candidate that is being served: `connect` opens a client of its own; `facts` say what serves it (JSON data)."""

    connect: Callable[[], InferenceClient]
    facts: Mapping[str, Any]


class CandidateServer(Protocol):
    """Where the gate's candidates are served: a process beside this one, or the container that will serve (a sidecar)."""

    def serving(
        self, artifact: Artifact, precision: str, config: Mapping[str, Any], scratch: Path
    ) -> AbstractContextManager[Served]:
        """Serve a candidate for as long as the context lasts. `config` is the gate's, `scratch` a folder for what that needs.

        Raises:
            ServerError: the server does not start, or died meanwhile.
        """


class Settled(Exception):
    """What a worker waits to help with has ended without it."""


@dataclass(frozen=True, slots=True)
class Workers:
    """The `count` workers that carry a step out together, of which this is number `index`, from 0.

    They meet at `host`:`port`, which number 0 opens; it alone reads and writes checkpoints that count, and the result. `wait_s`:
    how long to wait for one that does not come; `silent_s`: how long one that has come may say nothing. `settled`: whether
    the step is done, for one that waits to help.
    """

    count: int = 1
    index: int = 0
    host: str = ""
    port: int = 0
    wait_s: float = 900.0
    silent_s: float = 300.0
    settled: Callable[[], bool] = lambda: False


ONE_WORKER = Workers()
"""Nobody but this one."""


@dataclass(frozen=True, slots=True)
class Context:
    """What the runner gives a pass.

    `out` is an empty directory to fill. `scratch` belongs to this step alone and survives an interruption: whatever
    is flushed there (write aside, then rename) is what the next attempt goes on from. `threads` is how many CPU
    threads the pass may use, `seed` the seed to use and to record. `source` is set for the passes that import
    something: the local file or folder that the resolver pinned (its digest is in the configuration). `field` is where
    that data stands in the resource (`spec.gate.data`), "" for what is no data: only to refuse early what will not do,
    because equal data at two places is imported once; `copied`, for the same: changed copies of it are learned from as well.
    `server` serves the gate's candidates, None: a process beside this one.
    `workers`: who carries the step out; a pass that is not `shared` is number 0's alone. `said`: what `note_once`
    has said in this run, of whichever step.
    """

    out: Path
    scratch: Path
    threads: int
    seed: int
    progress: Progress
    said: set[str] = field(default_factory=set, compare=False)
    source: Path | None = None
    field: str = ""
    server: CandidateServer | None = None
    workers: Workers = ONE_WORKER
    copied: bool = False

    def note_once(self, message: str) -> None:
        """Note what several steps of a run find out, and its reader needs to be told once."""
        if message not in self.said:
            self.said.add(message)
            self.progress.note(message)


C = TypeVar("C", bound=PassConfig)
F = TypeVar("F")


class Pass(ABC, Generic[C, F]):
    """One step's work.

    `name` and `version` must equal the line in planning/manifest.py (a contract test compares them): raise `version`
    when the same inputs would give another result. `config_type` is the configuration's model; `kind` the kind of
    artifact it makes. `F` is a frozen dataclass of JSON values: what it found out.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    kind: ClassVar[str]
    config_type: ClassVar[type[PassConfig]]
    shared: ClassVar[bool] = False
    """Whether several workers can carry it out together (`Context.workers`)."""

    @abstractmethod
    def run(self, config: C, inputs: Mapping[str, Artifact], ctx: Context) -> F:
        """Do the work: read `inputs` (by role), fill `ctx.out`, return the facts.

        Raises:
            StillhouseError: with the field and the fix, when the inputs cannot be used.
        """

    def foresee(self, config: C, inputs: Mapping[str, Artifact]) -> None:
        """Refuse what `run` is bound to refuse, told by those of its inputs that are imports: the others may cost hours.

        Asked where the manifest says so. It decides nothing: `run` must refuse the same, because the step's key stands for
        what `run` read.

        Raises:
            StillhouseError: as `run`.
        """

    def kind_of(self, out: Path) -> str:
        """Return the kind of what was made: `kind`, unless a pass makes several kinds and tells by `out`'s files."""
        return self.kind
