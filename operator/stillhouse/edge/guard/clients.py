"""Who asks: by a token of its own, by its certificate, or else by its address.

Tokens lie in a folder, a file for each client, named as the client: what a Secret looks like where it is mounted. Only their
digests are kept, and a digest is looked up: how long that takes says nothing of the tokens.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from stillhouse.edge.guard.limits import Limiter, Limits
from stillhouse.edge.guard.refusals import Refusal
from stillhouse.errors import Problem, UsageError

__all__ = ["Clients", "bearer"]

_log = logging.getLogger(__name__)
_SHORTEST = 16
"""Characters of a token: below that it can be tried out."""
_FIRST, _LAST = 0x20, 0x7E
_LOOK_S = 5.0
_TRIES = Limits(rate=1.0, burst=10, clients=10_000)
"""Wrong tokens of one address: ten at once, then one a second. What is right is never slowed down by it."""


class Clients:
    """Knows clients by token where `folder` is given; without one everybody may ask, and of an empty one nobody.

    Raises:
        UsageError: the folder cannot be read, or a token is too short or two clients' own.
    """

    def __init__(self, folder: Path | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder, self._clock = folder, clock
        self._known: dict[bytes, str] = {}
        self._stamp: tuple[object, ...] = ()
        self._looked = clock()
        self._tries = Limiter(_TRIES, clock)
        self.trouble = ""
        """Why tokens that were put there later are not used; empty where nothing is wrong."""
        if folder is not None:
            self._known, self._stamp = _read(folder)

    def who(self, token: bytes | None, names: Sequence[str], address: str) -> str | Refusal:
        """Return the client's name, or why it may not ask. `names`: of its verified certificate."""
        if self._folder is None:
            return names[0] if names else address
        if self._clock() - self._looked > _LOOK_S:
            self._look()
        name = self._known.get(_digest(token)) if token else None
        if name is not None:
            return name
        wait = self._tries.enter(address)
        if wait is not None:
            return wait
        self._tries.leave(address)
        message = "no client has this token" if token else "a token is needed: authorization: Bearer TOKEN"
        return Refusal("UNAUTHENTICATED", Problem(message))

    def _look(self) -> None:
        self._looked = self._clock()
        assert self._folder is not None
        try:
            if _stamp(self._folder) != self._stamp:
                self._known, self._stamp = _read(self._folder)
            self.trouble = ""
        except (UsageError, OSError) as error:
            self.trouble = str(error)  # those that are known go on: half a change must lock nobody out


def bearer(value: bytes | None) -> bytes | None:
    """Return the token of an `authorization` header."""
    if value is None:
        return None
    kind, _, token = value.partition(b" ")
    return token.strip() if kind.lower() == b"bearer" else None


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()


def _files(folder: Path) -> list[Path]:
    # Kubernetes keeps the real files in a folder ..data and links to them.
    return [path for path in sorted(folder.iterdir()) if not path.name.startswith(".") and path.is_file()]


def _stamp(folder: Path) -> tuple[object, ...]:
    return tuple((path.name, (state := path.stat()).st_mtime_ns, state.st_ino, state.st_size) for path in _files(folder))


def _read(folder: Path) -> tuple[dict[bytes, str], tuple[object, ...]]:
    known: dict[bytes, str] = {}
    try:
        stamp = _stamp(folder)
        tokens = {path.name: path.read_bytes().strip() for path in _files(folder)}
    except OSError as error:
        raise UsageError(
            "the tokens cannot be read",
            field="--tokens",
            found=f"{folder}: {error.strerror}",
            allowed="a folder with a file for each client: its name is the client's, its content the token",
        ) from error
    for name, token in tokens.items():
        if len(token) < _SHORTEST:
            raise UsageError(
                "a token is too short to be one",
                field="--tokens",
                found=f"{name}: {len(token)} characters",
                allowed=f"{_SHORTEST} or more",
                fix=f"openssl rand -base64 32 > {folder / name}",
            )
        odd = next((byte for byte in token if not _FIRST <= byte <= _LAST), None)
        if odd is not None:
            raise UsageError(
                "a token is none that a header can carry",
                field="--tokens",
                found=f"{name!r}: a byte 0x{odd:02x}",
                allowed="one line of printable ASCII",
                fix=f"openssl rand -base64 32 > {folder / name}",
            )
        if not name.isprintable():
            raise UsageError(
                "a client's name is none", field="--tokens", found=repr(name), allowed="a file's name that can be printed"
            )
        other = known.setdefault(_digest(token), name)
        if other != name:
            raise UsageError("two clients have the same token", field="--tokens", found=f"{other}, {name}")
    if not known:
        _log.warning("%s: there is no token in it; nobody may ask until there is one", folder)
    return known, stamp
