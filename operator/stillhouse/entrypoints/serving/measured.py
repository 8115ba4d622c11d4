"""The server of a gate's pod: serves one candidate after the other, as the worker beside it asks (`exchange`)."""

from __future__ import annotations

import contextlib
import shutil
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from stillhouse.clients.hardware import hardware
from stillhouse.clients.store.local import LocalStore
from stillhouse.entrypoints.serving.exchange import Answer, Channel, Gone, Wanted
from stillhouse.entrypoints.serving.verified import verified
from stillhouse.errors import StillhouseError
from stillhouse.passes.evaluate.serving import GRACE_S, MODEL
from stillhouse.triton.handle import ServerHandle
from stillhouse.triton.layout import lay_out
from stillhouse.triton.server import start

__all__ = ["serve_candidates"]

_LOOK_S = 0.5


def serve_candidates(path: Path, store: Path, work: Path, stop: threading.Event) -> None:
    """Listen at the socket `path` until `stop` is set. `store` is only read, `work` a folder of the container's own.

    A candidate that does not start is told of, and ends nothing here.
    """
    with _listening(path) as listener:
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                connection, _ = listener.accept()
                connection.settimeout(None)
                with connection:
                    _candidate(Channel(connection), store, work, stop)


@contextlib.contextmanager
def _listening(path: Path) -> Iterator[socket.socket]:
    path.unlink(missing_ok=True)  # of a container that ended before
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen(1)
        listener.settimeout(_LOOK_S)
        yield listener


def _candidate(channel: Channel, store: Path, work: Path, stop: threading.Event) -> None:
    with contextlib.suppress(Gone):
        wanted = channel.wanted()
        handle: ServerHandle | None = None
        try:
            handle = _started(wanted, store, work)
            channel.say(Answer(handle.address, hardware().to_json()))
            while not stop.is_set() and not channel.spoken_to(_LOOK_S):
                handle.check()
        except StillhouseError as error:
            sys.stderr.write(f"{error}\n")
            channel.say(Answer.failed(error))
        finally:
            if handle is not None:
                handle.stop(GRACE_S)
            shutil.rmtree(work / MODEL, ignore_errors=True)


def _started(wanted: Wanted, store: Path, work: Path) -> ServerHandle:
    options = lay_out(
        verified(LocalStore(store), wanted.digest, MODEL),
        work / MODEL / "repository",
        model=MODEL,
        digest=wanted.digest,
        precision=wanted.precision,
        serve=wanted.serve,
        runtime_name=wanted.runtime,
        pinned=False,
        run_folder=work / MODEL / "run",
        cache_folder=work / "cache",
        die_with_parent=True,
    )
    return start(options)
