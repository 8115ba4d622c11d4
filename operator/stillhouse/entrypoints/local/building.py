"""Builds a file's plan and records how it went."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

from stillhouse.api.scalars import parse_cpu
from stillhouse.clients.store.local import LocalStore
from stillhouse.clients.store.receipts import Receipt
from stillhouse.entrypoints import interrupts
from stillhouse.entrypoints.local import state
from stillhouse.entrypoints.local.workspace import Workspace, machine, under_token
from stillhouse.errors import GateError, SpecError, StillhouseError
from stillhouse.passes.base import ONE_WORKER, CandidateServer, Workers
from stillhouse.passes.runner import Listener, Runner
from stillhouse.planning.runtimes import CPU, GPU

__all__ = ["build", "holding", "runner"]


def runner(work: Workspace, listener: Listener, server: CandidateServer | None = None, workers: Workers = ONE_WORKER) -> Runner:
    """Return a runner on the workspace's store.

    `server` serves the gate's candidates, None: a process of our own; `workers` are those of a pod's stage.
    """
    return Runner(
        work.store, machine(), work.source_path, listener, stopping=interrupts.requested, server=server, workers=workers
    )


@contextlib.contextmanager
def holding(store: LocalStore, name: str, listener: Listener) -> Iterator[None]:
    """Hold a model's name; while another process has it, `listener` hears of whom is waited for."""
    with contextlib.ExitStack() as held:
        with listener.busy(name) as progress:

            def waiting(holder: str) -> None:
                other = f"process {holder or 'unknown'}"
                listener.note(f"another `still` ({other}) is building or starting {name}; waiting for it")
                listener.note(f"how far it is: still status {name}")
                progress.update(0, None, "", f"waiting for {other}; still status {name} shows how far it is")

            held.enter_context(store.model(name, on_wait=waiting))
        yield


def build(work: Workspace, listener: Listener) -> dict[str, Any]:
    """Carry out the plan and return the accepted revision. What serves is not touched. The caller holds the model.

    Raises:
        SpecError: the spec names a runtime that only a cluster has.
        GateFailed, GateInconclusive: no candidate passed; the figures are kept in the state.
        StillhouseError: a step could not be carried out; everything finished is kept.
    """
    _require_runtime(work)
    work = under_token(work)
    state.planned(work.store, work.plan, str(work.path), work.model.spec.serve.pin)
    for note in work.notes:
        listener.note(note)
    limit = work.model.spec.serve.resources.limits.cpu
    if limit and parse_cpu(limit) > work.env.cpus:
        listener.note(f"the CPU limit is {limit}, this machine gives {work.env.cpus:g}: figures are this machine's")
    if work.model.spec.scale.max_replicas > 1:
        listener.note("spec.scale is for clusters: on one machine there is one server")
    if work.model.spec.serve.resources.limits.memory:
        listener.note("spec.serve.resources.limits.memory is for clusters: on one machine nothing bounds the server's memory")
    try:
        # Libraries print now and then; standard output belongs to what was asked for (`-o json`).
        with contextlib.redirect_stdout(sys.stderr):
            receipts: dict[str, Receipt] = runner(work, listener).run(work.plan)
    except StillhouseError as error:
        report = error.report if isinstance(error, GateError) else []
        state.refused(work.store, work.name, error.reason, str(error), report)
        raise
    except BaseException:
        state.interrupted(work.store, work.name)
        raise
    return state.accepted(work.store, work.plan, receipts)


def _require_runtime(work: Workspace) -> None:
    """Refuse before anything is trained: the gate would start a server that is not on this machine."""
    if work.model.spec.serve.runtime == GPU:
        raise SpecError(
            "this runtime serves in a cluster only",
            field="spec.serve.runtime",
            found=GPU,
            allowed=f"{CPU} on one machine",
            fix=f"still push {work.path.name} --to pvc://CLAIM, then kubectl apply -f {work.path.name}; here: runtime: {CPU}",
        )
