"""A name server on loopback: what CoreDNS says of a headless Service, as the test decides."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Names", "serving_names"]

_A, _IN = 1, 1
_TTL_S = 5


class Names:
    """Answers every A question with `addresses`; other kinds have no records. `asked` counts A questions."""

    def __init__(self, addresses: list[str]) -> None:
        self.addresses = addresses
        self.asked = 0
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))

    @property
    def port(self) -> int:
        return int(self.socket.getsockname()[1])

    def serve(self) -> None:
        while True:
            try:
                question, client = self.socket.recvfrom(4096)
            except OSError:
                return
            if not question:
                return
            self.socket.sendto(self._answer(question), client)

    def _answer(self, message: bytes) -> bytes:
        end = message.index(b"\0", 12) + 5  # the name's end, then type and class
        kind, _ = struct.unpack(">HH", message[end - 4 : end])
        self.asked += kind == _A
        records = [
            struct.pack(">HHHIH", 0xC00C, _A, _IN, _TTL_S, 4) + socket.inet_aton(address)
            for address in (self.addresses if kind == _A else [])
        ]
        head = message[:2] + struct.pack(">HHHHH", 0x8580, 1, len(records), 0, 0)
        return head + message[12:end] + b"".join(records)


@contextmanager
def serving_names(*addresses: str) -> Iterator[Names]:
    """Run a name server for the length of a block."""
    names = Names(list(addresses))
    thread = threading.Thread(target=names.serve, daemon=True)
    thread.start()
    try:
        yield names
    finally:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as waker:
            waker.sendto(b"", ("127.0.0.1", names.port))
        thread.join(5)
        names.socket.close()
