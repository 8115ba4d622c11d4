"""What a server knows of a call, of who makes it, and how much it takes of both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stillhouse.edge.status import Metadata
from stillhouse.edge.wire.headers import metadata_of

if TYPE_CHECKING:
    from stillhouse.edge.tracing.spans import Span
    from stillhouse.edge.wire.room import Room

__all__ = ["Call", "Limits", "Load", "Peer"]


@dataclass(frozen=True, slots=True)
class Limits:
    """`message`: bytes of a request, inflated. `streams`: calls at once of one connection. `connections`: at once in all.

    `headers`: bytes of a request's headers. `age_s`: a connection is asked to leave after so long (± 10 %; 0: never), so that
    clients come to know new servers. `body_s`: how long a unary request's body may take to come. `first_s`: a connection that has
    asked nothing for so long after it was made is ended, so that silence does not take everybody's places (0: never).
    `unread`: bytes of answers that one connection may leave unread and still be answered; `unread_all`: of all, before the one
    that leaves the most is ended. `calls`: at once of all connections; `arriving`: bytes of messages of all that have not come
    whole. Beyond them who has the most gives way: nobody is known by then.
    """

    message: int = 64 << 20
    streams: int = 1024
    connections: int = 16_384
    headers: int = 16 << 10
    age_s: float = 0.0
    body_s: float = 60.0
    first_s: float = 60.0
    unread: int = 64 << 20
    unread_all: int = 256 << 20
    calls: int = 16_384
    arriving: int = 256 << 20


@dataclass(slots=True, eq=False)
class Load:
    """Bytes of answers that wait for a connection's client to read them. `end`: breaks the connection off.

    `arriving`: where what arrives is counted, with that of all others.
    """

    end: Callable[[], None]
    arriving: Room | None = None
    unread: int = 0


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end of a connection. `names`: of its verified certificate (subject's common name, DNS, URI), if any.

    `load`: of the connection, where there is one.
    """

    address: str
    names: tuple[str, ...] = ()
    load: Load | None = field(default=None, compare=False, repr=False)

    @classmethod
    def of(cls, transport: Any, load: Load) -> Peer:
        """Return who is at the other end of a transport."""
        name = transport.get_extra_info("peername")
        address = name[0] if isinstance(name, tuple) else "unix"
        certificate = transport.get_extra_info("peercert") or {}
        names = [value for part in certificate.get("subject", ()) for kind, value in part if kind == "commonName"]
        names += [value for kind, value in certificate.get("subjectAltName", ()) if kind in ("DNS", "URI")]
        return cls(address, tuple(names), load)


class Call:
    """What a handler knows of a call. `deadline` is of the loop's clock, None where the client set none.

    `span` is there while the call is traced; `client` once the door has told who makes it.
    """

    __slots__ = ("_metadata", "_request", "client", "deadline", "method", "peer", "span")

    def __init__(self, request: Any, peer: Peer, deadline: float | None) -> None:
        self.method: str = request.path
        self.peer = peer
        self.deadline = deadline
        self.span: Span | None = None
        self.client: str | None = None
        self._request = request
        self._metadata: Metadata | None = None

    @property
    def metadata(self) -> Metadata:
        """Return the client's metadata.

        Raises:
            RpcError: a binary one cannot be read.
        """
        if self._metadata is None:
            self._metadata = metadata_of(self._request.headers.items())
        return self._metadata

    def header(self, name: str) -> bytes | None:
        """Return the value of one header, without looking at the others."""
        value: bytes | None = self._request.headers.get(name)
        return value
