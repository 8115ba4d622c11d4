"""Where the workers of a training meet: number 0 opens a place, the others come, and none begins before all are there.

The place is torch's TCPStore, which number 0 holds in its own process: when that process ends, so does everything.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Final

import torch
import torch.distributed as dist

from stillhouse.errors import EnvironmentProblem, WorkerLost
from stillhouse.passes.base import Progress, Settled, Workers
from stillhouse.passes.distill.together import ALONE, Group

__all__ = ["meeting", "refusal"]

_LOOK_S: Final = 0.2
_KNOCK_S: Final = 2.0
_ANSWER: Final = timedelta(seconds=20)
_HERE, _NAME, _BEGIN, _REFUSED = "here", "name", "begin", "refused"


@contextlib.contextmanager
def meeting(workers: Workers, name: str, device: torch.device, progress: Progress) -> Iterator[Group]:
    """Be one of a group within the block; `name` is what is worked at, the same for all.

    Raises:
        WorkerLost: one did not come in `workers.wait_s`.
        EnvironmentProblem: some have a GPU and some have none, or two have one and the same.
        Settled: what this one waited to help with is done.
    """
    if workers.count == 1:
        yield ALONE
        return
    store = _opened(workers, name, device, progress) if workers.index == 0 else _reached(workers, name, device)
    silent = timedelta(seconds=workers.silent_s)
    try:
        dist.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            store=dist.PrefixStore("group", store),
            rank=workers.index,
            world_size=workers.count,
            timeout=silent,
        )
    except RuntimeError as error:
        raise _lost(workers, "the workers do not reach each other", error) from error
    try:
        yield Group(workers.count, workers.index, device)
    finally:
        with contextlib.suppress(RuntimeError):
            dist.destroy_process_group()
        del store


def _opened(workers: Workers, name: str, device: torch.device, progress: Progress) -> Any:
    """Open the place and wait until all are there."""
    began = time.monotonic()
    store = _bound(workers)
    store.set(_NAME, name)
    store.set(f"{_HERE}/0", _place(device))
    while True:
        missing = [index for index in range(1, workers.count) if not store.check([f"{_HERE}/{index}"])]
        if not missing:
            break
        waited = time.monotonic() - began
        who = f"worker{'s' if len(missing) > 1 else ''} {', '.join(map(str, missing))} of {workers.count}"
        if waited > workers.wait_s:
            raise WorkerLost(
                f"{who} did not come",
                field="spec.build.workers",
                found=f"waited {waited:.0f} s at {workers.host}:{workers.port}",
                allowed=f"all {workers.count}, numbers 0 to {workers.count - 1}",
                fix="look why their pods do not run: kubectl get pods -l stillhouse.io/stage=train; or fewer workers",
            )
        progress.update(0, None, "", f"waiting for {who}")
        time.sleep(_LOOK_S)
    places = [store.get(f"{_HERE}/{index}").decode() for index in range(workers.count)]
    if refused := refusal(places):
        store.set(_REFUSED, " ".join(places))
        time.sleep(2 * _LOOK_S)  # they are to hear it before the place is gone
        raise refused
    store.set(_BEGIN, "1")
    return store


def _bound(workers: Workers) -> Any:
    """Return the place. The port of the meeting before may not be free yet."""
    deadline = time.monotonic() + 10.0
    while True:
        try:
            return dist.TCPStore(
                "localhost", workers.port, world_size=None, is_master=True, timeout=_ANSWER, wait_for_workers=False
            )
        except RuntimeError as error:
            if time.monotonic() > deadline:
                raise EnvironmentProblem(
                    "the place where the workers are to meet cannot be opened",
                    field="spec.build.workers",
                    found=f"port {workers.port}: {_first_line(error)}",
                    fix="nothing else in the pod may listen at that port",
                ) from error
            time.sleep(_LOOK_S)


def _reached(workers: Workers, name: str, device: torch.device) -> Any:
    """Come to the place and wait until all are there."""
    began = time.monotonic()
    last = ""
    while True:
        if workers.settled():
            raise Settled
        try:
            store = _entered(workers, name, device)
        except (OSError, RuntimeError) as error:
            last = _first_line(error)
            store = None
        if store is not None:
            return store
        waited = time.monotonic() - began
        if waited > workers.wait_s:
            raise WorkerLost(
                f"worker 0 of {workers.count} is not reached",
                field="spec.build.workers",
                found=f"waited {waited:.0f} s for {workers.host}:{workers.port}" + (f": {last}" if last else ""),
                fix="look why its pod does not run: kubectl get pods -l stillhouse.io/stage=train; and whether a NetworkPolicy"
                " or a firewall keeps the pods of one Job apart",
            )
        time.sleep(_LOOK_S)


def _entered(workers: Workers, name: str, device: torch.device) -> Any:
    """Return the place once all are there; None where it is another meeting's. Who waits in it can be called off."""
    # The plain connection first: torch would try for its whole time, and hear no signal meanwhile.
    socket.create_connection((workers.host, workers.port), timeout=_KNOCK_S).close()
    store = dist.TCPStore(workers.host, workers.port, world_size=None, is_master=False, timeout=_ANSWER, wait_for_workers=False)
    if store.get(_NAME).decode() != name:
        return None
    store.set(f"{_HERE}/{workers.index}", _place(device))
    while not store.check([_BEGIN]):
        if store.check([_REFUSED]):
            refused = refusal(store.get(_REFUSED).decode().split())
            assert refused is not None  # the same places, the same answer
            raise refused
        if workers.settled():
            raise Settled
        time.sleep(_LOOK_S)
    return store


def _place(device: torch.device) -> str:
    """Return `cpu`, or a GPU's name that no other has."""
    return f"cuda:{torch.cuda.get_device_properties(device).uuid}" if device.type == "cuda" else device.type


def refusal(places: list[str]) -> EnvironmentProblem | None:
    """Return why workers at these places, `cpu` or `cuda:` and a GPU's name each, cannot train together; None where they can."""
    with_gpu, without = ([str(at) for at, place in enumerate(places) if (place != "cpu") is gpu] for gpu in (True, False))
    if with_gpu and without:
        return EnvironmentProblem(
            "some workers have a GPU and some have none",
            field="spec.build.workers",
            found=f"a GPU: {', '.join(with_gpu)}; none: {', '.join(without)}",
            allowed="a GPU for every worker, or for none",
            fix="send all of them to nodes of one kind: spec.build.placement.nodeSelector",
        )
    shared = [str(at) for at, place in enumerate(places) if place != "cpu" and places.count(place) > 1]
    if not shared:
        return None
    # NCCL would refuse it in the first step, in words that look like a worker's death.
    return EnvironmentProblem(
        "workers share a GPU",
        field="spec.build.workers",
        found=f"one and the same: {', '.join(shared)}",
        allowed="a GPU of its own for every worker",
        fix="fewer workers, or whole GPUs instead of shared ones: time slicing lends one to several pods",
    )


def _lost(workers: Workers, what: str, error: BaseException) -> WorkerLost:
    return WorkerLost(
        what,
        field="spec.build.workers",
        found=f"worker {workers.index} of {workers.count}: {_first_line(error)}",
        fix="look at the logs of the others: kubectl logs -l stillhouse.io/stage=train --prefix",
    )


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
