"""TLS of the metrics API: certificate and trusted authority can change while it serves; connections that are open go on."""

from __future__ import annotations

import ssl
import tempfile
from pathlib import Path

from stillhouse.scaling.certificates import Pair

__all__ = ["Tls"]


class Tls:
    """`context` is what a server listens with. Each handshake uses what was given last."""

    def __init__(self) -> None:
        self._pair: Pair | None = None
        self._authority = ""
        self._now: ssl.SSLContext | None = None
        self.context = _context()
        # Called in every handshake, whether a name was sent or not: the one place where OpenSSL takes another context.
        self.context.sni_callback = self._choose

    @property
    def ready(self) -> bool:
        """Return whether there is a certificate to show and an authority to hold clients' certificates against."""
        return self._now is not None

    def show(self, pair: Pair) -> None:
        """Show this certificate from now on."""
        if pair != self._pair:
            self._pair = pair
            self._renew()

    def trust(self, authority: str) -> None:
        """Trust client certificates that this authority (PEM) signed, and no others, from now on."""
        if authority != self._authority:
            self._authority = authority
            self._renew()

    def _renew(self) -> None:
        if self._pair is None or not self._authority:
            return
        context = _context()
        context.load_verify_locations(cadata=self._authority)
        with tempfile.TemporaryDirectory() as folder:  # the ssl module reads keys from files alone
            certificate, key = Path(folder, "tls.crt"), Path(folder, "tls.key")
            certificate.write_bytes(self._pair.certificate)
            key.touch(0o600)
            key.write_bytes(self._pair.key)
            context.load_cert_chain(certificate, key)
        self._now = context

    def _choose(self, connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, context: ssl.SSLContext) -> int | None:
        if self._now is None:
            return ssl.ALERT_DESCRIPTION_INTERNAL_ERROR
        connection.context = self._now
        return None


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Optional: the kubelet's probes have none. A certificate that another authority signed ends the handshake.
    context.verify_mode = ssl.CERT_OPTIONAL
    context.options |= ssl.OP_NO_TICKET  # a resumed session would bring no certificate
    context.set_alpn_protocols(["http/1.1"])
    return context
