"""The embedded server: one Triton process for one version of one model, on loopback."""

from __future__ import annotations

import os
import re
import secrets
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from stillhouse.clients.inference import InferenceClient, infer_arrays
from stillhouse.clients.triton import TritonClient
from stillhouse.errors import QueueRefusal, ServerError, StillhouseError, UsageError
from stillhouse.triton import flags, ports
from stillhouse.triton.handle import ServerHandle, attach
from stillhouse.triton.locate import find, prepare_backends
from stillhouse.triton.platform import require_platform
from stillhouse.triton.process import spawn
from stillhouse.triton.runtimes import RUNTIMES, Runtime

__all__ = ["ServerHandle", "ServerOptions", "attach", "start", "trouble"]

_POLL_S = 0.05
_LOGS_KEPT = 4
_PATIENCE_S = 10.0
_STARTS = 4
_IN_USE: Final = re.compile(r"Socket '[^']*:(\d+)' already in use")


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """What to start.

    `repository` is a model repository that holds `model`; `run_folder` takes the log, `cache_folder` the backend
    directory. `grpc_port` 0 takes any free port. `http` and `metrics` open those endpoints on free ports of the same
    address, metrics on `metrics_port` and at `metrics_host` where these are given. `cpus` are the cores that the server may use
    (None: all of ours).
    """

    model: str
    repository: Path
    run_folder: Path
    cache_folder: Path
    grpc_port: int = 0
    host: str = "127.0.0.1"
    digest: str = ""
    http: bool = False
    metrics: bool = False
    metrics_port: int = 0
    metrics_host: str = ""
    cpus: frozenset[int] | None = None
    die_with_parent: bool = False
    start_timeout_s: float = 120.0
    response_cache_bytes: int = 0
    runtime: Runtime = RUNTIMES["triton-ort-cpu"]


def start(options: ServerOptions) -> ServerHandle:
    """Start a server and wait until it has answered an inference.

    Raises:
        UsageError: the port is in use; the message names it, who holds it and the way out.
        ServerError: the machine cannot run it, or it died or did not get ready; with the last lines of its log.
    """
    if options.grpc_port:
        ports.require_free(options.host, options.grpc_port)
    handle = launch_ready(options, options.grpc_port)
    try:
        _require_alone(handle)
        return replace(handle, backends=handle.count_backends())
    except BaseException:
        handle.stop(2.0)
        raise


def launch_ready(options: ServerOptions, grpc_port: int) -> ServerHandle:
    """Start the process and wait until it has answered an inference. `grpc_port` 0: any free one.

    Triton opens its ports only when the model is loaded: where one that was chosen here is taken by then, others are chosen.

    Raises:
        ServerError: as `wait_until_ready`.
    """
    for left in reversed(range(_STARTS)):
        handle = launch(options, grpc_port or ports.free_port(options.host))
        try:
            wait_until_ready(handle, options.start_timeout_s)
        except BaseException as error:  # also Ctrl-C: no server is left behind that nobody knows of
            handle.stop(2.0)
            chosen = {0 if grpc_port else handle.grpc_port, handle.http_port, 0 if options.metrics_port else handle.metrics_port}
            if not (left and isinstance(error, ServerError) and chosen & _taken(handle)):
                raise
        else:
            return handle
    raise AssertionError("the last start returns or raises")


def _taken(handle: ServerHandle) -> set[int]:
    """Return the ports that it found in use, by its log."""
    return {int(port) for line in handle.tail(200) for port in _IN_USE.findall(line)}


def launch(options: ServerOptions, grpc_port: int) -> ServerHandle:
    """Start the process, without waiting for it. `grpc_port` may be shared with a server that allows it."""
    require_platform()
    installation = find(options.runtime.home)
    backends = prepare_backends(installation, options.cache_folder)
    options.run_folder.mkdir(parents=True, exist_ok=True)
    _drop_old_logs(options.run_folder)
    token = secrets.token_hex(4)
    endpoints = flags.Endpoints(
        options.host,
        grpc_port,
        ports.free_port(options.host) if options.http else None,
        (options.metrics_port or ports.free_port(options.metrics_host or options.host)) if options.metrics else None,
        options.metrics_host,
    )
    server_id = f"stillhouse-{options.model}-{token}"
    words = flags.command(
        options.runtime,
        installation,
        backends=backends,
        repository=options.repository,
        endpoints=endpoints,
        server_id=server_id,
        key=secrets.token_hex(16),
        response_cache_bytes=options.response_cache_bytes,
    )
    log = options.run_folder / f"triton-{token}.log"
    values = flags.environment(options.runtime, installation, os.environ)
    pid, born = spawn(words, values, log, cpus=options.cpus, die_with_parent=options.die_with_parent)
    return ServerHandle(
        pid=pid,
        birth=born,
        host=options.host,
        grpc_port=grpc_port,
        http_port=endpoints.http_port,
        metrics_port=endpoints.metrics_port,
        log=str(log),
        model=options.model,
        digest=options.digest,
        server_id=server_id,
    )


def trouble(handle: ServerHandle) -> str:
    """Return why a server that runs does not do its work, "" where it does: its backend may have died, or it may hang."""
    try:
        handle.check()
        with TritonClient(handle.address, timeout_s=_PATIENCE_S, retries=0) as client:
            return "" if client.ready(handle.model) else "it says that it is not ready, or gives no answer in time"
    except StillhouseError as error:
        return error.problem.message


def _drop_old_logs(folder: Path) -> None:
    """Keep the logs of the last few starts; at most two of them are of servers that run (during a hand-over)."""
    logs = sorted(folder.glob("triton-*.log"), key=lambda path: path.stat().st_mtime, reverse=True)
    for log in logs[_LOGS_KEPT:]:
        log.unlink(missing_ok=True)


def wait_until_ready(handle: ServerHandle, timeout_s: float) -> None:
    """Wait until *this* server, and no other on a shared port, is ready and has answered an inference.

    A queue with a short timeout may refuse the first one: it is asked again.

    Raises:
        ServerError: it died, with exit status and the last lines of its log, or the time ran out.
    """
    deadline, refused = time.monotonic() + timeout_s, ""
    while time.monotonic() < deadline:
        handle.check()
        # A new connection each time: on a shared port the kernel deals connections out between the servers.
        with TritonClient(handle.address, timeout_s=10.0, retries=0) as client:
            if client.ready(handle.model) and _is(client, handle) and _keeps_its_ports(handle):
                try:
                    _answer_once(client, handle)
                except QueueRefusal as refusal:
                    refused = refusal.problem.found
                else:
                    return
        time.sleep(_POLL_S)
    raise ServerError(
        f"the server did not get ready within {timeout_s:g} s",
        field=handle.address,
        found=f"its queue refuses every request: {refused}" if refused else "\n".join(handle.tail()),
        fix="a longer spec.serve.queue.timeout, or none" if refused else f"still logs {handle.model}",
    )


def _keeps_its_ports(handle: ServerHandle) -> bool:
    """Triton opens gRPC, HTTP and metrics in this order: it may answer on the first and end because another is taken."""
    beside = (port for port in (handle.http_port, handle.metrics_port) if port)
    held = ({pid for pid, _ in ports.holders(port)} for port in beside)
    return all(not pids or handle.pid in pids for pids in held)


def _is(client: InferenceClient, handle: ServerHandle) -> bool:
    try:
        return client.server().id == handle.server_id
    except StillhouseError:
        return False


def _answer_once(client: InferenceClient, handle: ServerHandle) -> None:
    import json

    told = client.parameters(handle.model)
    shape = json.loads(told.get("stillhouse.features", "{}")).get("shape") or json.loads(told.get("stillhouse.image", "[]"))
    if not shape:
        client.infer_texts(handle.model, ["ready"])
        return
    import numpy as np

    tensor = "FEATURES" if "stillhouse.features" in told else "IMAGE"
    infer_arrays(client, handle.model, tensor, np.zeros((1, *shape), dtype=np.float32))


def _require_alone(handle: ServerHandle) -> None:
    """Two starts that both found the port free share it now; the one that sees the other gives way."""
    others = [(pid, name) for pid, name in ports.holders(handle.grpc_port) if pid != handle.pid]
    if others:
        who = ", ".join(f"process {pid} ({name})" for pid, name in others)
        raise UsageError(
            "the port was taken while the server started",
            field="--port",
            found=f"{handle.address} is held by {who} too",
            allowed="a free port, or 0 for any",
            fix="start it again, or on another port",
        )
