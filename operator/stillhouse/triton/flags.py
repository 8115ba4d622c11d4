"""The server's command line and environment: pure functions of the runtime and of where things lie."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stillhouse.triton.locate import Installation
from stillhouse.triton.runtimes import Runtime

__all__ = ["Endpoints", "command", "environment"]

# How long a stopping server waits for requests under way, in seconds; the caller's grace is longer.
EXIT_TIMEOUT_S = 10


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where the server listens; a port of None turns the endpoint off. `metrics_host` is `host` where it is empty."""

    host: str
    grpc_port: int
    http_port: int | None = None
    metrics_port: int | None = None
    metrics_host: str = ""


def command(
    runtime: Runtime,
    installation: Installation,
    *,
    backends: Path,
    repository: Path,
    endpoints: Endpoints,
    server_id: str,
    key: str,
    response_cache_bytes: int = 0,
) -> list[str]:
    """Return the command line.

    Args:
        runtime: whose versioned flags to use.
        installation: where the binary lies.
        backends: the prepared backend directory.
        repository: the model repository.
        endpoints: addresses and ports.
        server_id: what the server calls itself; a hand-over tells old and new by it.
        key: value of the header that unlocks the restricted APIs. It is random and no client is given it. Triton takes it
            from the command line alone (neither a file nor the environment), so whoever sees this machine's processes can
            read it there: it locks out clients that reach the port, not the machine's own users.
        response_cache_bytes: size of the response cache; 0: none.
    """
    words = [
        str(installation.binary),
        f"--id={server_id}",
        f"--model-repository={repository}",
        f"--backend-directory={backends}",
        f"--cache-directory={installation.caches}",
        f"--exit-timeout-secs={EXIT_TIMEOUT_S}",
        # Shared memory of a killed server stays behind; under a name of its own it can be found and removed.
        f"--backend-config=python,shm-region-prefix-name={server_id}.",
        *runtime.flags,
        f"--grpc-address={endpoints.host}",
        f"--grpc-port={endpoints.grpc_port}",
        "--reuse-grpc-port=true",
    ]
    if endpoints.http_port is None:
        words.append("--allow-http=false")
    else:
        words += [f"--http-address={endpoints.host}", f"--http-port={endpoints.http_port}", "--http-thread-count=2"]
    if endpoints.metrics_port is None:
        words.append("--allow-metrics=false")
    else:
        words += [f"--metrics-address={endpoints.metrics_host or endpoints.host}", f"--metrics-port={endpoints.metrics_port}"]
    if runtime.restricted_grpc:
        words.append(f"--grpc-restricted-protocol={','.join(runtime.restricted_grpc)}:stillhouse-key={key}")
    if runtime.restricted_http and endpoints.http_port is not None:
        words.append(f"--http-restricted-api={','.join(runtime.restricted_http)}:stillhouse-key={key}")
    if response_cache_bytes:
        words.append(f"--cache-config=local,size={response_cache_bytes}")
    return words


def environment(runtime: Runtime, installation: Installation, inherited: Mapping[str, str]) -> dict[str, str]:
    """Return the server's environment: what was inherited, the runtime's, and where libraries and packages lie."""
    values = dict(inherited)
    values.update(runtime.environment)
    libraries = [str(installation.libraries), str(installation.libpython)]
    if values.get("LD_LIBRARY_PATH"):
        libraries.append(values["LD_LIBRARY_PATH"])
    values["LD_LIBRARY_PATH"] = os.pathsep.join(libraries)
    values["STILLHOUSE_PYTHONPATH"] = os.pathsep.join([str(installation.source), str(installation.packages)])
    return values
