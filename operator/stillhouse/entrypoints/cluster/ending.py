"""How a process of ours in a cluster ends: asked to by a signal, or because a part of it has ended by itself."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Iterable
from typing import Any

from stillhouse.entrypoints.cluster.watching import WatchesEnded

__all__ = ["broken", "ended_with", "take_signals", "take_signals_after"]


def take_signals(stop: asyncio.Event) -> None:
    """Set `stop` at SIGTERM and SIGINT."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)


async def take_signals_after(watching: asyncio.Event, stop: asyncio.Event) -> None:
    """Take them once kopf watches: it has taken them for itself as it began."""
    await watching.wait()
    take_signals(stop)


def broken(done: Iterable[asyncio.Task[Any]], log: logging.Logger, whole: str) -> bool:
    """Return whether one of the tasks that are done ended by itself, and log how; `whole` is what it was a part of."""
    found = [task for task in done if task.cancelled() or task.exception() is not None]
    for task in found:
        log.error("a part of %s ended", whole, exc_info=None if task.cancelled() else task.exception())
    return bool(found)


def ended_with(watches: asyncio.Task[Any], code: int) -> int:
    """Return the exit code; after `WatchesEnded` end the process at once.

    Some of kopf's tasks cannot be cancelled then, and `asyncio.run` waits for them.
    """
    if watches.done() and not watches.cancelled() and isinstance(watches.exception(), WatchesEnded):
        logging.shutdown()
        os._exit(code)
    return code
