"""The gate's candidates, served by the container that will serve the model: it runs beside the worker (`serving.exchange`)."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillhouse.clients.triton import TritonClient
from stillhouse.entrypoints.serving.exchange import Channel, Gone, Wanted
from stillhouse.errors import ServerError
from stillhouse.passes.base import Artifact, Served
from stillhouse.passes.evaluate.serving import measured_settings

__all__ = ["Sidecar"]

_LOOK_S = 0.2
_FIRST_S = 120.0
_AFTERWARDS_S = 3.0
"""A server that died is seen within that time by the container that runs it."""


@dataclass(frozen=True, slots=True)
class Sidecar:
    """`path` is the socket that the server's container listens at, `cpus` its CPU limit."""

    path: Path
    cpus: float

    @contextlib.contextmanager
    def serving(self, artifact: Artifact, precision: str, config: Mapping[str, Any], scratch: Path) -> Iterator[Served]:
        """Let the candidate be served for as long as the context lasts.

        Raises:
            ServerError: there is no server, it does not start, or it died while it was measured; with what it said last.
            SpecError, SourceError, StoreError: the candidate cannot be served so.
        """
        del scratch  # the server has a folder of its own
        settings = measured_settings(config)
        settings["cpus"] = settings["cpus"] or self.cpus
        with self._connected() as connection:
            channel = Channel(connection)
            try:
                channel.say(Wanted(artifact.digest, precision, config["runtime"], settings))
                answer = channel.answer()
            except Gone as gone:
                raise self._ended() from gone
            answer.raise_error()
            try:
                yield Served(lambda: TritonClient(answer.address, retries=0), answer.hardware or {})
            except Exception as error:
                self._explain(channel, error)
                raise

    def _explain(self, channel: Channel, error: Exception) -> None:
        """Raise what the server says of its end, where an error of the measuring is that."""
        if not channel.spoken_to(_AFTERWARDS_S if isinstance(error, ServerError) else 0.0):
            return
        try:
            told = channel.answer()
        except Gone:
            raise self._ended() from error
        told.raise_error()

    @contextlib.contextmanager
    def _connected(self) -> Iterator[socket.socket]:
        deadline = time.monotonic() + _FIRST_S
        while True:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                connection.connect(str(self.path))
                break
            except OSError as error:  # it is still starting, or was started anew
                connection.close()
                if time.monotonic() > deadline:
                    raise ServerError(
                        "the container that is to serve the candidates does not answer",
                        field=str(self.path),
                        found=str(error),
                        fix="kubectl logs of this pod, container triton, may say why",
                    ) from error
            time.sleep(_LOOK_S)
        with connection:
            yield connection

    def _ended(self) -> ServerError:
        return ServerError(
            "the container that serves the candidates ended; the usual cause is its memory limit",
            field="spec.serve.resources.limits.memory",
            fix="raise the limit, or take a smaller model; kubectl describe of this pod says how it ended",
        )
