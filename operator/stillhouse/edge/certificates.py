"""TLS of the front and towards backends, from files that may be replaced while we run."""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Callable
from pathlib import Path

from stillhouse.errors import UsageError

__all__ = ["Files", "Front", "towards"]

_STILL_NS = 1_000_000_000
_log = logging.getLogger(__name__)


class Files:
    """A certificate and its key, and when they were last read."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self.certificate, self.key = certificate, key
        self._seen: tuple[object, ...] = ()

    def load(self, context: ssl.SSLContext) -> None:
        """Read them into a context.

        Raises:
            UsageError: they are not there, cannot be read, or do not belong together.
        """
        seen = self._stamp()
        try:
            # First into a context that nobody uses: of files that do not belong together, as while they are being replaced one
            # after the other, a context keeps the certificate and is left without a key.
            for each in (ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), context):
                each.load_cert_chain(self.certificate, self.key, password=_no_password)
        except (OSError, ssl.SSLError) as error:
            raise UsageError(
                "the certificate cannot be used",
                field="--tls-certificate, --tls-key",
                found=f"{self.certificate}, {self.key}: {error}",
                allowed="a certificate and its key, PEM",
                fix="openssl x509 -in CERTIFICATE -noout -text, and openssl pkey -in KEY -check",
            ) from error
        self._seen = seen

    def changed(self) -> bool:
        """Return whether they are others than those that were read; a Secret's volume swaps a link, which counts."""
        return self._stamp() != self._seen

    def _stamp(self) -> tuple[object, ...]:
        return (_stamp(self.certificate), _stamp(self.key))


def _no_password() -> str:
    """Stand for the password of a key: without it OpenSSL would ask at the terminal, and wait."""
    return ""


class Front:
    """What is shown to clients. `client_authority`: clients show a certificate that it has signed (mTLS)."""

    def __init__(self, files: Files, client_authority: Path | None) -> None:
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.set_alpn_protocols(["h2", "http/1.1"])
        self._files = files
        files.load(self.context)
        if client_authority is not None:
            _trust(self.context, client_authority, "--tls-client-authority")
            self.context.verify_mode = ssl.CERT_REQUIRED

    def renew(self) -> None:
        """Read certificate and key anew where they have changed, for new connections. What is wrong is logged, and waits."""
        if not self._files.changed():
            return
        try:
            self._files.load(self.context)
            _log.info("the certificate was read anew")
        except UsageError as error:
            _log.error("the new certificate is not used: %s", error)


class Shown:
    """A token in a file that may be replaced while we run: looked at for every call, and read where it is another file.

    `now`: nanoseconds of the files' clock.
    """

    def __init__(self, file: Path, now: Callable[[], int] = time.time_ns) -> None:
        """Read it once.

        Raises:
            UsageError: the file cannot be read, or holds no token.
        """
        self._file, self._now, self._last = file, now, ""
        self._seen: tuple[int, ...] | None = None
        if not self():
            raise UsageError("the token of the larger model cannot be read", field=str(file), allowed="printable ASCII, one line")

    def __call__(self) -> str:
        """Return it; while the file is being replaced, the one of before."""
        stamp = _stamp(self._file)
        if stamp is not None and stamp == self._seen:
            return self._last
        try:
            text = self._file.read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            return self._last
        if text and text.isprintable():
            self._last = text
            # A clock that ticks in milliseconds may give two contents one time: a file is known once it has been still.
            still = stamp is not None and self._now() - max(stamp[:2]) > _STILL_NS
            self._seen = stamp if still else None
        return self._last


def _stamp(file: Path) -> tuple[int, ...] | None:
    """Return what changes with a file's content, its times first; None where there is none."""
    try:
        state = file.stat()
    except OSError:
        return None
    return (state.st_mtime_ns, state.st_ctime_ns, state.st_ino, state.st_size)


def towards(authority: Path | None, own: Files | None) -> ssl.SSLContext:
    """Return how backends are spoken to: their certificates are verified, by `authority` or the system's authorities.

    `own`: the certificate that is shown to them.

    Raises:
        UsageError: a file cannot be read.
    """
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2"])
    if authority is not None:
        _trust(context, authority, "--backend-authority")
    if own is not None:
        own.load(context)
    return context


def _trust(context: ssl.SSLContext, authority: Path, field: str) -> None:
    try:
        context.load_verify_locations(authority)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(
            "the authority cannot be read", field=field, found=f"{authority}: {error}", allowed="certificates, PEM"
        ) from error
