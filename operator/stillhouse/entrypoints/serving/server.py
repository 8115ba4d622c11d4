"""One revision behind one Triton, from the pod's start to its end."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillhouse.clients.store.local import LocalStore
from stillhouse.entrypoints.serving.counting import Counters
from stillhouse.entrypoints.serving.health import Probes
from stillhouse.entrypoints.serving.verified import verified
from stillhouse.errors import ServerError, StillhouseError
from stillhouse.planning.runtimes import runtime_of
from stillhouse.triton.handle import ServerHandle
from stillhouse.triton.layout import lay_out
from stillhouse.triton.server import start

__all__ = ["Pod", "serve"]

_LOOK_S = 1.0
_GRACE_S = 45.0
"""For requests under way: less than the pod's own grace after its preStop."""


@dataclass(frozen=True, slots=True)
class Pod:
    """What a serving pod is started with. `settings` are the measured settings in plain units; ports of 0: any free one.

    `cut`: digest of the model's halves, of which the upper one is served beside it; empty: it is served whole alone.
    """

    model: str
    digest: str
    precision: str
    store: Path
    work: Path
    settings: Mapping[str, Any]
    cut: str = ""
    host: str = "0.0.0.0"  # noqa: S104 - the pod's own; its network policy says who may
    grpc_port: int = 8001
    health_port: int = 8000
    metrics_port: int = 8002


def serve(pod: Pod, stop: threading.Event, started: list[ServerHandle] | None = None, probes: list[Probes] | None = None) -> None:
    """Serve until `stop` is set; requests under way are answered.

    `started` and `probes` receive the server and the probes, for whoever asks for any free port.

    Raises:
        StoreError: the artifact is not on the volume, or its contents do not match its digest.
        ServerError: the server does not start, or it or its backend died: the pod must start anew.
    """
    state = _State()
    endpoint = Probes(pod.host, pod.health_port, ready=state.unready, live=state.dead)
    if probes is not None:
        probes.append(endpoint)
    counters = Counters(pod.host, pod.metrics_port, pod.model, state.metrics_port)
    try:
        store = LocalStore(pod.store)
        options = lay_out(
            verified(store, pod.digest, pod.model),
            pod.work / "repository",
            model=pod.model,
            digest=pod.digest,
            precision=pod.precision,
            serve=pod.settings,
            runtime_name=runtime_of(pod.settings),
            pinned=False,
            cut=verified(store, pod.cut, pod.model) if pod.cut else None,
            run_folder=pod.work / "run",
            cache_folder=pod.work / "cache",
            grpc_port=pod.grpc_port,
            host=pod.host,
            metrics=True,
            metrics_host="127.0.0.1",
            die_with_parent=True,
        )
        handle = start(options)
        if started is not None:
            started.append(handle)
        state.handle = handle
        try:
            while not stop.wait(_LOOK_S):
                handle.check()
        finally:
            state.ending = True
            handle.stop(_GRACE_S if stop.is_set() else 0.0)
    finally:
        counters.close()
        endpoint.close()


class _State:
    """What the probes are told. The server is not asked at each probe: it is looked at every second anyway."""

    def __init__(self) -> None:
        self.handle: ServerHandle | None = None
        self.ending = False
        self._asked = 0.0
        self._said = ""

    def metrics_port(self) -> int | None:
        return self.handle.metrics_port if self.handle is not None else None

    def unready(self) -> str:
        if self.ending:
            return "it is ending"
        return self.dead() if self.handle is not None else "it has not answered an inference yet"

    def dead(self) -> str:
        """Return why the pod must start anew; a server that is still starting is not dead (the startup probe has its own end)."""
        handle = self.handle
        if handle is None or self.ending:
            return ""
        if time.monotonic() - self._asked < _LOOK_S:
            return self._said
        self._asked = time.monotonic()
        try:
            handle.check()
            self._said = ""
        except ServerError as error:
            self._said = error.problem.message
        except StillhouseError as error:
            self._said = str(error)
        return self._said
