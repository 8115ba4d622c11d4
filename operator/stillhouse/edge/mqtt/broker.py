"""Which broker, and what it is shown: `mqtts://HOST[:8883]`, a certificate, a user and a password from files."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from stillhouse.errors import UsageError

__all__ = ["Broker", "Credentials", "broker"]

_PORTS = {"mqtt": 1883, "mqtts": 8883}
_ALLOWED = "mqtts://HOST[:PORT] (8883), mqtt://HOST[:PORT] (1883)"


@dataclass(frozen=True, slots=True)
class Credentials:
    """Files with the user's name and the password; read anew for each connection, since a Secret's volume replaces them."""

    username: Path
    password: Path

    def read(self) -> tuple[str, str]:
        """Return name and password, without an end of line.

        Raises:
            UsageError: a file cannot be read, or is empty.
        """
        found = []
        for field, path in (("username", self.username), ("password", self.password)):
            try:
                text = path.read_text(encoding="utf-8").rstrip("\r\n")
            except (OSError, UnicodeDecodeError) as error:
                raise UsageError("credentials of the broker cannot be read", field=field, found=f"{path}: {error}") from error
            if not text:
                raise UsageError("credentials of the broker are empty", field=field, found=str(path), fix="write them into it")
            found.append(text)
        return found[0], found[1]


@dataclass(frozen=True, slots=True)
class Broker:
    """`tls`: None speaks in the clear. `keepalive_s`: how often a silent connection is tried."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    credentials: Credentials | None = None
    keepalive_s: int = 30


def broker(
    url: str,
    *,
    authority: Path | None = None,
    own: tuple[Path, Path] | None = None,
    credentials: Credentials | None = None,
) -> Broker:
    """Return the broker of an address. `authority`: who signed its certificate, None: the system's authorities know it.

    `own`: certificate and key that are shown to it. Its certificate and its name are always verified.

    Raises:
        UsageError: it is no such address, or a file cannot be read.
    """
    scheme, separator, rest = url.partition("://")
    address = rest.rstrip("/")
    if ":" not in address.rpartition("]")[2]:
        address += f":{_PORTS.get(scheme, 0)}"
    host, _, port = address.rpartition(":")
    if not separator or scheme not in _PORTS or not host or "/" in host or "@" in host or not _is_port(port):
        fix = "credentials go into files" if "@" in address else ""
        found = url.rpartition("@")[2] if "@" in url else url  # a password does not belong into a message
        raise UsageError("this is no address of a broker", field="broker", found=found[:200], allowed=_ALLOWED, fix=fix)
    context = None
    if scheme == "mqtts":
        context = _context(authority, own)
    elif authority is not None or own is not None:
        raise UsageError("certificates need mqtts://", field="broker", found=url[:200], allowed=_ALLOWED)
    if credentials is not None:
        credentials.read()
    return Broker(host.strip("[]"), int(port), context, credentials)


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and 0 < int(text) <= 65535


def _context(authority: Path | None, own: tuple[Path, Path] | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=authority)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if own is not None:
            context.load_cert_chain(*own)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(
            "certificates for the broker cannot be used",
            field="authority, certificate, key",
            found=f"{authority or ''} {' '.join(map(str, own or ()))}: {error}".strip(),
            allowed="PEM",
        ) from error
    return context
