"""What gRPC writes into HTTP/2's headers: deadlines, metadata, status."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable

from stillhouse.edge.status import Code, Metadata, RpcError

__all__ = ["RESERVED", "metadata_of", "pairs", "timeout_of", "timeout_text"]

_UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])")
_SCALES = (("n", 1e-9), ("u", 1e-6), ("m", 1e-3), ("S", 1.0), ("M", 60.0), ("H", 3600.0))
_NAME = re.compile(r"[0-9a-z_.\-]+")
_TEXT = re.compile(r"[\x20-\x7e]*")

RESERVED = frozenset(
    {"te", "content-type", "content-length", "host", "user-agent", "connection", "keep-alive", "transfer-encoding", "upgrade",
     "proxy-connection", "date"}
)  # fmt: skip
"""Headers of the transport: a proxy makes its own. So does every name that begins with `grpc-` or `:`."""


def timeout_of(value: bytes | None) -> float | None:
    """Return the seconds of `grpc-timeout`, None where there is none.

    Raises:
        RpcError: it is no such value.
    """
    if value is None:
        return None
    match = _TIMEOUT.fullmatch(value)
    if match is None:
        raise RpcError(Code.INTERNAL, f"grpc-timeout: {value[:20]!r} is no number of at most 8 digits with a unit of HMSmun")
    return int(match[1]) * _UNITS[chr(match[2][0])]


def timeout_text(seconds: float) -> str:
    """Return seconds as `grpc-timeout`: the finest unit that needs no more than 8 digits, rounded down, at least 1 ns."""
    for unit, scale in _SCALES:
        count = int(seconds / scale)
        if count < 10**8:
            return f"{max(count, 1)}{unit}"
    return f"{10**8 - 1}H"


def metadata_of(headers: Iterable[tuple[str, bytes]]) -> Metadata:
    """Return the metadata of a peer's headers: what is not the transport's. Values of `-bin` are decoded.

    Raises:
        RpcError: a `-bin` value is no base64.
    """
    found: list[tuple[str, str | bytes]] = []
    for name, value in headers:
        if name in RESERVED or name.startswith(("grpc-", ":")):
            continue
        if name.endswith("-bin"):
            found.extend((name, _decoded(name, each)) for each in value.split(b","))
        else:
            found.append((name, value.decode("latin-1")))
    return tuple(found)


def _decoded(name: str, value: bytes) -> bytes:
    value = value.strip()
    try:
        return base64.b64decode(value + b"=" * (-len(value) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise RpcError(Code.INTERNAL, f"metadata {name[:100]}: no base64") from error


def pairs(metadata: Metadata) -> list[tuple[str, str]]:
    """Return metadata as headers. What no header can hold is left out: a peer must not choose the headers of another.

    Names of the transport and such as are no metadata names are left out too.
    """
    found: list[tuple[str, str]] = []
    for name, value in metadata:
        if name in RESERVED or name.startswith("grpc-") or not _NAME.fullmatch(name):
            continue
        if isinstance(value, bytes):
            if name.endswith("-bin"):
                found.append((name, base64.b64encode(value).decode("ascii").rstrip("=")))
        elif not name.endswith("-bin") and _TEXT.fullmatch(value):
            found.append((name, value))
    return found
