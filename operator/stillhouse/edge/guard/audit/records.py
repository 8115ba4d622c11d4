"""One record: a line of JSON that holds the hash of the record before it.

`{"data":{…},"kind":"…","prev":"…","seq":7,"time":"…"` are the body, in canonical form (sorted keys, no spaces, UTF-8). `hash`
is SHA-256 over the body with its closing brace. With a key, `mac` is HMAC-SHA256 over that hash: whoever can write the file can
make new hashes, but no macs. So a line can be rebuilt from what it says, and one that differs from that in any byte is no
record.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stillhouse.digests import canonical_json
from stillhouse.errors import UsageError

__all__ = ["GENESIS", "BadRecord", "Key", "Record", "encode", "parse", "stamp"]

GENESIS = "0" * 64
"""What the first record of a log holds as the hash before it."""

_HEX = re.compile(r"[0-9a-f]{64}", re.ASCII)
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", re.ASCII)
_LEAST_KEY = 16


class BadRecord(ValueError):
    """A line is no record, or not the one that it says."""


class Key:
    """The secret of a log, and what is derived from it: one key for the chain, one for digests of inputs."""

    __slots__ = ("chain", "digests")

    def __init__(self, secret: bytes) -> None:
        self.chain = hmac.digest(secret, b"stillhouse audit: chain", "sha256")
        self.digests = hmac.digest(secret, b"stillhouse audit: digests of inputs", "sha256")

    @classmethod
    def read(cls, file: Path, field: str = "--key-file") -> Key:
        """Read a key file; white space around the key does not count.

        Raises:
            UsageError: it cannot be read, or is too short to be a secret.
        """
        try:
            secret = file.read_bytes().strip()
        except OSError as error:
            raise UsageError("the key cannot be read", field=field, found=f"{file}: {error.strerror}") from error
        if len(secret) < _LEAST_KEY:
            found, allowed = f"{len(secret)} bytes", f"at least {_LEAST_KEY} bytes"
            raise UsageError(
                "the key is too short", field=field, found=found, allowed=allowed, fix=f"openssl rand -hex 32 > {file}"
            )
        return cls(secret)

    def mac(self, digest: str) -> str:
        """Return the mac of a record's hash."""
        return hmac.digest(self.chain, digest.encode(), "sha256").hex()


@dataclass(frozen=True, slots=True)
class Record:
    """A record as it was read. `mac` is empty where it has none."""

    seq: int
    time: str
    kind: str
    data: dict[str, Any]
    prev: str
    hash: str
    mac: str

    @property
    def seconds(self) -> float:
        """Its time, in seconds of the wall clock; the beginning of time where it is none."""
        try:
            return datetime.fromisoformat(self.time).timestamp()
        except ValueError:
            return 0.0

    def genuine(self, key: Key) -> bool:
        """Say whether the holder of `key` wrote it."""
        return hmac.compare_digest(self.mac, key.mac(self.hash))


def stamp(seconds: float) -> str:
    """Return a time of the wall clock as records have it: UTC, in microseconds."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def encode(seq: int, time: str, kind: str, data: dict[str, Any], prev: str, key: Key | None) -> tuple[bytes, str]:
    """Return a record's line and its hash.

    Raises:
        ValueError, TypeError: `data` is not JSON data.
    """
    body = canonical_json({"data": data, "kind": kind, "prev": prev, "seq": seq, "time": time})
    digest = hashlib.sha256(body).hexdigest()
    mac = f',"mac":"{key.mac(digest)}"' if key is not None else ""
    return b'%b,"hash":"%b"%b}\n' % (body[:-1], digest.encode(), mac.encode()), digest


def parse(line: bytes) -> Record:
    """Read a line, with its newline.

    Raises:
        BadRecord: it is no record, or does not have the hash of what it says.
    """
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        raise BadRecord("it is no JSON") from None
    if not isinstance(found, dict):
        raise BadRecord("it is no record")
    digest, mac = found.pop("hash", None), found.pop("mac", "")
    if set(found) != {"data", "kind", "prev", "seq", "time"}:
        raise BadRecord("it has other fields than a record")
    seq, time, prev = found["seq"], found["time"], found["prev"]
    if type(seq) is not int or seq < 1:
        raise BadRecord("its sequence number is none")
    whole = all(isinstance(each, str) and _HEX.fullmatch(each) for each in (digest, prev, *([mac] if mac != "" else [])))
    told = isinstance(found["kind"], str) and isinstance(time, str) and _TIME.fullmatch(time) and isinstance(found["data"], dict)
    if not (whole and told):
        raise BadRecord("its fields are not a record's")
    try:
        body = canonical_json(found)
    except (ValueError, RecursionError):
        raise BadRecord("it is no JSON that is ever written") from None
    if hashlib.sha256(body).hexdigest() != digest:
        raise BadRecord("it was edited: its hash is not that of what it says")
    suffix = f',"hash":"{digest}"' + (f',"mac":"{mac}"' if mac else "") + "}\n"
    if line != body[:-1] + suffix.encode():
        raise BadRecord("it was edited: it is not written as records are")
    return Record(seq, time, found["kind"], found["data"], prev, digest, mac)
