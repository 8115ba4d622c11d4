"""What the gate's worker and the server beside it say to each other: one line of JSON each, over a socket of their pod's own.

A connection is a candidate: the worker asks for it, the server answers where it listens, and ends it when the connection closes,
whichever way that came about. The socket lies in a volume that only these two containers mount: nobody else can ask.
"""

from __future__ import annotations

import json
import select
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from stillhouse import errors
from stillhouse.errors import ServerError, StillhouseError

__all__ = ["Answer", "Channel", "Gone", "Wanted"]

_LONGEST = 64 << 10
_KINDS = ("SpecError", "SourceError", "StoreError", "ServerError")


class Gone(Exception):
    """The other side has closed the connection, or said what nobody understands."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A candidate that is to be served: the artifact in the store, and how (`planning.request.serve_config`)."""

    digest: str
    precision: str
    runtime: str
    serve: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """Where the candidate answers and what serves it; or, `error`, why it does not (any more)."""

    address: str = ""
    hardware: Mapping[str, Any] | None = None
    error: Mapping[str, str] | None = None

    @classmethod
    def failed(cls, error: StillhouseError) -> Answer:
        """Return the answer that tells of an error."""
        kind = next((each.__name__ for each in type(error).__mro__ if each.__name__ in _KINDS), "ServerError")
        problem = error.problem
        told = {"message": problem.message, "field": problem.field, "found": problem.found, "fix": problem.fix}
        return cls(error={"kind": kind, **told})

    def raise_error(self) -> None:
        """Raise the error that it tells of, if it does.

        Raises:
            StillhouseError: of the kind that the server met.
        """
        if self.error is None:
            return
        field, found, fix = (str(self.error.get(name, ""))[:8000] for name in ("field", "found", "fix"))
        kind: type[StillhouseError] = ServerError
        if self.error.get("kind") in _KINDS:
            kind = getattr(errors, str(self.error["kind"]))
        raise kind(str(self.error.get("message") or "it does not say why"), field=field, found=found, fix=fix)


class Channel:
    """One end of a connection."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._pending = b""

    def say(self, what: Wanted | Answer) -> None:
        """Send a line.

        Raises:
            Gone: the other side has left.
        """
        try:
            self._connection.sendall(json.dumps(asdict(what)).encode() + b"\n")
        except OSError as error:
            raise Gone(str(error)) from error

    def wanted(self) -> Wanted:
        """Wait for what is wanted.

        Raises:
            Gone: the other side has left, or is of another version.
        """
        try:
            return Wanted(**self._line())
        except TypeError as error:
            raise Gone(str(error)) from error

    def answer(self) -> Answer:
        """Wait for the answer.

        Raises:
            Gone: the other side has left, or is of another version.
        """
        try:
            return Answer(**self._line())
        except TypeError as error:
            raise Gone(str(error)) from error

    def spoken_to(self, within_s: float) -> bool:
        """Wait until something can be read, also the end of the connection; return whether it can."""
        return bool(self._pending) or bool(select.select([self._connection], [], [], within_s)[0])

    def _line(self) -> dict[str, Any]:
        while b"\n" not in self._pending:
            try:
                more = self._connection.recv(_LONGEST)
            except OSError as error:
                raise Gone(str(error)) from error
            self._pending += more
            if not more or len(self._pending) > _LONGEST:
                raise Gone("the other side has closed the connection")
        line, _, self._pending = self._pending.partition(b"\n")
        try:
            data = json.loads(line)
        except ValueError as error:
            raise Gone(str(error)) from error
        if not isinstance(data, dict):
            raise Gone("no object was said")
        return data
