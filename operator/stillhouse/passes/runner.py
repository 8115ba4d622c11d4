"""Runs a plan: finds what is there, runs what is not, and keeps a receipt of everything.

Level-triggered: it looks at the store, never at what an earlier process said it would do. A step counts as done when
its receipt and its object are whole; a process may die at any moment and the next one goes on from there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import importlib.util
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, cast

from pydantic import ValidationError

from stillhouse.clients.store.files import disk_full, full
from stillhouse.clients.store.local import LocalStore
from stillhouse.clients.store.receipts import Receipt
from stillhouse.digests import canonical_json
from stillhouse.errors import EnvironmentProblem, MissingPackages, StillhouseError, StoreError
from stillhouse.extras import install, install_apart
from stillhouse.passes.attempts import earlier
from stillhouse.passes.base import ONE_WORKER, Artifact, CandidateServer, Context, Pass, PassConfig, Progress, Workers
from stillhouse.passes.memory import keep_freed_memory
from stillhouse.planning.fields import as_written, data_field
from stillhouse.planning.manifest import PASSES, PassEntry
from stillhouse.planning.plan import Plan, Step
from stillhouse.planning.preparing import copied

__all__ = ["Listener", "Machine", "Runner", "StepFailed", "explaining", "load_pass"]


class Listener(Protocol):
    """Who wants to know how a run goes: a terminal, a log, a progress endpoint."""

    def started(self, step: Step, position: int, total: int) -> Progress:
        """Take note that a step starts; return the progress that its pass reports to."""

    def finished(self, step: Step, receipt: Receipt, *, cached: bool) -> None:
        """Take note that a step has its receipt."""

    def busy(self, what: str) -> contextlib.AbstractContextManager[Progress]:
        """Take note that something beside the steps goes on within the block; yield the progress that it reports to."""

    def note(self, message: str) -> None:
        """Pass on something that the user should know."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What is recorded in receipts beside the result."""

    threads: int
    toolchain: Mapping[str, str] = field(default_factory=dict)
    hardware: Mapping[str, Any] = field(default_factory=dict)


class StepFailed(Exception):
    """A pass raised something that is not an error of ours: a bug, shown with the step it happened in."""

    def __init__(self, step: Step) -> None:
        self.step = step
        super().__init__(f"step {step.id} failed")


def load_pass(name: str, passes: Mapping[str, PassEntry] = PASSES) -> Pass[Any, Any]:
    """Import one of the passes that exist and return it.

    Raises:
        MissingPackages: what it needs is not installed.
    """
    entry = passes[name]
    missing = [need for need in entry.needs if importlib.util.find_spec(need) is None]
    if missing:
        raise MissingPackages(
            f"pass {name} needs packages that are not installed",
            found="missing: " + ", ".join(missing),
            fix=install_apart(entry.extra) if entry.apart else install(entry.extra),
        )
    module, _, attribute = entry.target.partition(":")
    return cast("Pass[Any, Any]", getattr(importlib.import_module(module), attribute)())


class Runner:
    """Runs plans against one store.

    `source_path` returns the local file or folder of a step's URI; `passes` are those that exist; `stopping` says whether
    somebody asked the process to stop (a KeyboardInterrupt inside a C extension can get lost); `server` serves the gate's
    candidates (None: a process of our own); `workers` says who carries out with this one what can be shared.
    """

    def __init__(
        self,
        store: LocalStore,
        machine: Machine,
        source_path: Callable[[str], Path],
        listener: Listener,
        passes: Mapping[str, PassEntry] = PASSES,
        stopping: Callable[[], bool] = lambda: False,
        server: CandidateServer | None = None,
        workers: Workers = ONE_WORKER,
    ) -> None:
        self._server = server
        self._workers = workers
        self._stopping = stopping
        self._store = store
        self._machine = machine
        self._source_path = source_path
        self._listener = listener
        self._passes = passes
        self._said: set[str] = set()

    def done(self, step: Step) -> Receipt | None:
        """Return the receipt of a step whose object is whole, contents and all. Changes nothing."""
        return self._store.done(step.key)

    def todo(self, plan: Plan) -> list[Step]:
        """Return the steps that must run, parents first: what the targets lack, and what that needs in turn."""
        with self._listener.busy("what is stored") as progress:
            return list(plan.missing(lambda step: self._store.done(step.key, report=_checking(step, progress)) is not None))

    def run(self, plan: Plan) -> dict[str, Receipt]:
        """Run what is missing and return the receipts by step id (of the steps that have one).

        Raises:
            StillhouseError: a step cannot be carried out; everything finished before stays.
            StepFailed: a step failed with an error that is not ours.
            KeyboardInterrupt: the run was interrupted; unfinished work is kept in the step's scratch.
        """
        keep_freed_memory()
        self._said = set()
        with self._store.using():
            todo = self.todo(plan)
            running = {step.id for step in todo}
            for step in plan.steps:
                receipt = self._store.receipt(step.key) if step.id not in running else None
                if receipt is not None:
                    self._listener.finished(step, receipt, cached=True)
            work = next((position for position, step in enumerate(todo, start=1) if step.stage != "resolve"), None)
            numbers: dict[str, int] = {}  # steps that read one file in the same way are one piece of work
            for step in todo:
                numbers.setdefault(step.key, len(numbers) + 1)
            for position, step in enumerate(todo, start=1):
                if position == work:
                    self._foresee(plan, todo[position - 1 :])
                self._one(plan, step, numbers[step.key], len(numbers))
                if self._stopping():
                    raise KeyboardInterrupt
        found = {step.id: self._store.receipt(step.key) for step in plan.steps}
        return {step_id: receipt for step_id, receipt in found.items() if receipt is not None}

    def artifact(self, step: Step) -> Artifact:
        """Return the artifact of a finished step.

        Raises:
            StoreError: it has none.
        """
        receipt = self._store.receipt(step.key)
        if receipt is None:
            raise StoreError("a step's result is gone", field=step.id, fix="run the same command again")
        return Artifact(receipt.artifact, receipt.kind, self._store.objects.opened(receipt.artifact), receipt.size, receipt.facts)

    def _foresee(self, plan: Plan, todo: list[Step]) -> None:
        """Ask the steps that wait for others whether their imports, which are all there, will do."""
        for step in todo:
            if not self._passes[step.pass_name].foresees:
                continue
            parents = {role: plan.step(parent) for role, parent in step.parents.items()}
            inputs = {role: self.artifact(parent) for role, parent in parents.items() if parent.stage == "resolve"}
            with self._listener.busy(step.id) as progress, explaining(step, self._store.root):
                progress.update(0, None, "", "looking at what it will be given")
                work = load_pass(step.pass_name, self._passes)
                work.foresee(self._config(work, step), inputs)

    def _one(self, plan: Plan, step: Step, position: int, total: int) -> None:
        def waiting(holder: str) -> None:
            self._listener.note(f"{step.id}: another process (pid {holder or 'unknown'}) is at this step; waiting for it")

        with contextlib.ExitStack() as held:
            with self._listener.busy(step.id) as aside:  # another process's step, or its result, may take long
                held.enter_context(self._store.step(step.key, on_wait=waiting))
                receipt = self._mended(step, aside)
            if receipt is None:
                progress = self._listener.started(step, position, total)
                receipt = self._make(plan, step, progress)
                self._listener.finished(step, receipt, cached=False)
            else:
                self._listener.finished(step, receipt, cached=True)

    def _mended(self, step: Step, progress: Progress) -> Receipt | None:
        """Return the receipt of a finished step; drop a damaged result. Only under the step's lock: nobody else mends it."""
        receipt = self._store.receipt(step.key)
        if receipt is None:
            return None
        problem = self._store.objects.check(receipt.artifact, report=_checking(step, progress))
        if not problem:
            return receipt
        self._listener.note(f"{step.id}: the stored result is damaged ({problem}); it is built again")
        self._store.forget(step.key)
        self._store.objects.drop(receipt.artifact)
        return None

    def _make(self, plan: Plan, step: Step, progress: Progress) -> Receipt:
        started, clock = datetime.now(UTC), time.monotonic()
        work = load_pass(step.pass_name, self._passes)
        config = self._config(work, step)
        inputs = {role: self.artifact(plan.step(parent)) for role, parent in step.parents.items()}
        source = self._source_path(step.uri) if step.uri else None
        scratch = self._store.scratch(step.key)
        out = self._store.objects.new_dir()
        context = Context(
            out=out,
            scratch=scratch,
            threads=self._machine.threads,
            seed=int(step.config.get("seed", 0)),
            progress=progress,
            said=self._said,
            source=source,
            field=data_field(step),
            copied=copied(plan, step),
            server=self._server,
            workers=self._workers,
        )
        try:
            with explaining(step, self._store.root), earlier(scratch, self._store.tmp) as before:
                facts = json.loads(canonical_json(dataclasses.asdict(work.run(config, inputs, context))))
                kind = work.kind_of(out)
                digest, size = self._store.objects.put(
                    out, kind, lambda done, total: progress.update(done, total, "bytes", "storing the result")
                )
        finally:
            with contextlib.suppress(OSError):
                shutil.rmtree(out, ignore_errors=True)
        entry = self._passes[step.pass_name]
        receipt = Receipt(
            key=step.key,
            step=step.id,
            stage=step.stage,
            pass_name=step.pass_name,
            version=step.version,
            config=dict(step.config),
            parents={role: plan.step(parent).key for role, parent in step.parents.items()},
            artifact=digest,
            kind=kind,
            size=size,
            facts=facts,
            started=started.isoformat(timespec="seconds").replace("+00:00", "Z"),
            seconds=round(before + time.monotonic() - clock, 3),
            toolchain={need: self._machine.toolchain.get(need, "") for need in entry.needs},
            machine=dict(self._machine.hardware),
        )
        self._store.finish(receipt)
        self._store.clear_scratch(step.key)
        return receipt

    @staticmethod
    def _config(work: Pass[Any, Any], step: Step) -> PassConfig:
        try:
            return work.config_type.model_validate(step.config)
        except ValidationError as error:
            raise StepFailed(step) from error


@contextlib.contextmanager
def explaining(step: Step, root: Path) -> Iterator[None]:
    """Say what a pass's error is about: the pass does not know what in the resource it works for."""
    try:
        yield
    except StillhouseError as error:
        cause = error.__cause__ or error.__context__
        if not isinstance(error, StoreError) and cause is not None and disk_full(cause):
            raise full(root, cause) from error  # a library said so, and the pass took it for a fault of the input
        error.problem = as_written(step, error.problem)
        error.others = tuple(as_written(step, other) for other in error.others)
        raise
    except Exception as error:
        if disk_full(error):
            raise full(root, error) from error
        if isinstance(error, MemoryError):
            fix = "stop what else needs memory, or use a machine with more; still plan FILE says how much each step takes"
            raise EnvironmentProblem("the memory does not suffice", field=step.id, found=str(error)[:200], fix=fix) from error
        raise StepFailed(step) from error


def _checking(step: Step, progress: Progress) -> Callable[[int, int], None]:
    """Return what is told how much of a step's stored result has been read again."""
    return lambda done, total: progress.update(done, total, "bytes", f"checking {step.id}")
