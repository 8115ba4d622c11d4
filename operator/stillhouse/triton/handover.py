"""A new version takes the port over while clients go on asking.

1. The new server starts beside the old one on the same port; Triton opens it only when the model is loaded and warm.
2. New connections are steered to the new server.
3. The old server's connections end by themselves: it was started with a maximum connection age, at which gRPC tells a
   client to connect again (GOAWAY) and finishes what is under way. No request is lost, with or without retries.
4. The old server, without connections now, is stopped.

SIGTERM alone would not do: Triton 2.51 first unloads its models and answers NOT_FOUND on living connections for seconds
(measured: docs/design/20261122-embedded-server.md).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from stillhouse.clients.triton import TritonClient
from stillhouse.errors import StillhouseError, UsageError
from stillhouse.triton import steering
from stillhouse.triton.handle import ServerHandle
from stillhouse.triton.server import ServerOptions, launch_ready

__all__ = ["HandOver", "drain", "hand_over", "take_over"]

_CHECKS = 8
_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class HandOver:
    """What `take_over` did: the new server, the old one (to be drained), and whether new connections are steered."""

    new: ServerHandle
    old: ServerHandle
    steered: bool


def take_over(old: ServerHandle, options: ServerOptions) -> HandOver:
    """Start the new server on the old one's port and send new connections to it. The old one still runs afterwards.

    `options.host` and `options.grpc_port` must be the old server's (a port of 0 means that).

    Raises:
        UsageError: another address or port.
        ServerError: the old server is gone, or the new one did not get ready; the old one serves on then.
    """
    old.check()
    if options.host != old.host or options.grpc_port not in (0, old.grpc_port):
        raise UsageError(
            "a new version takes over the port of the old one",
            field="--port",
            found=f"{options.host}:{options.grpc_port}",
            allowed=old.address,
            fix=f"leave --port out, or stop the old version first: still down {old.model}",
        )
    before = steering.listeners(old.pid, old.grpc_port)
    new = launch_ready(options, old.grpc_port)
    try:
        after = steering.listeners(new.pid, old.grpc_port)
        steered = steering.steer(old.host, old.grpc_port, before, after) and _all_answered_by(new)
    except BaseException:
        new.stop(2.0)
        raise
    return HandOver(replace(new, backends=new.count_backends()), old, steered)


def drain(done: HandOver, timeout_s: float = 60.0, progress: Callable[[int], None] | None = None) -> bool:
    """Let the old server's connections end, then stop it.

    Where connections cannot be steered it is killed at once instead: clients with retries for UNAVAILABLE connect again
    and are answered by the new server, others see an error for what was under way.

    Args:
        done: what `take_over` returned.
        timeout_s: longest wait, in seconds.
        progress: is told how many connections are left.

    Returns:
        Whether no connection was cut.
    """
    old = done.old
    if not done.steered:
        old.stop(0.0)
        return False
    deadline = time.monotonic() + timeout_s
    left = steering.connections(old.pid, old.grpc_port)
    while left and old.alive() and time.monotonic() < deadline:
        if progress is not None:
            progress(left)
        time.sleep(_POLL_S)
        left = steering.connections(old.pid, old.grpc_port)
    old.stop()
    return left == 0


def hand_over(
    old: ServerHandle,
    options: ServerOptions,
    *,
    on_switch: Callable[[HandOver], None] | None = None,
    timeout_s: float = 60.0,
    progress: Callable[[int], None] | None = None,
) -> ServerHandle:
    """Do the whole: `take_over`, then `on_switch` (the caller writes its record), then `drain`; returns the new server."""
    done = take_over(old, options)
    if on_switch is not None:
        on_switch(done)
    drain(done, timeout_s, progress)
    done.new.check()
    return done.new


def _all_answered_by(new: ServerHandle) -> bool:
    """Ask over new connections who answers."""
    for _ in range(_CHECKS):
        with TritonClient(new.address, timeout_s=5.0) as client:
            try:
                if client.server().id != new.server_id:
                    return False
            except StillhouseError:
                return False
    return True
