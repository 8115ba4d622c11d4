"""Certificates for tests: an authority, a server of 127.0.0.1, a client."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

__all__ = ["certificates"]


def certificates(folder: Path, *, hours: float = 1.0) -> None:
    """Write an authority, a server's certificate for 127.0.0.1, and a client's named `edge-1`; the two end after `hours`."""
    now = datetime.datetime.now(datetime.UTC)

    def make(name: str, issuer: Any, signer: Any, extension: Any, ca: bool) -> tuple[Any, Any]:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer or subject).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(hours=2))
        builder = builder.not_valid_after(now + datetime.timedelta(hours=1.0 if ca else hours))
        builder = builder.add_extension(x509.BasicConstraints(ca, None), True)
        if extension is not None:
            builder = builder.add_extension(extension, False)
        signed = builder.sign(signer or key, hashes.SHA256())
        (folder / f"{name}.crt").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        text = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        (folder / f"{name}.key").write_bytes(text)
        return signed, key

    authority, key = make("authority", None, None, None, True)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    make("server", authority.subject, key, address, False)
    make("edge-1", authority.subject, key, x509.SubjectAlternativeName([x509.DNSName("edge-1.example")]), False)
