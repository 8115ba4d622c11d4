"""HTTP/2 by hand, for what no library would send."""

from __future__ import annotations

import socket
import struct

__all__ = ["DATA", "HEADERS", "PREFACE", "SETTINGS", "call", "connect", "frame", "headers"]

DATA, HEADERS, SETTINGS, WINDOW_UPDATE = 0, 1, 4, 8
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_END_STREAM, _END_HEADERS = 1, 4


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def headers(path: str, **more: str) -> bytes:
    """Return a header block without compression."""
    told = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "x", "content-type": "application/grpc"}
    told |= {name.replace("_", "-"): value for name, value in more.items()}
    return b"".join(
        b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode() for name, value in told.items()
    )


def call(stream: int, path: str, body: bytes, **more: str) -> bytes:
    """Return the frames of a whole request."""
    return frame(HEADERS, _END_HEADERS, stream, headers(path, **more)) + frame(DATA, _END_STREAM, stream, body)


def connect(address: str, *, window: int = 65_535) -> socket.socket:
    """Connect and say hello. `window`: bytes of each answer that may come; the connection's is as large as can be."""
    host, _, port = address.rpartition(":")
    line = socket.create_connection((host, int(port)), timeout=20)
    line.sendall(PREFACE + frame(SETTINGS, 0, 0, struct.pack(">HI", 4, window)) + frame(WINDOW_UPDATE, 0, 0, b"\x7f\xfe\0\0"))
    return line
