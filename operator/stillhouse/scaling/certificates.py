"""The serving certificate of the metrics API and the authority that signs it. Pure but for randomness."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

__all__ = ["AUTHORITY_LIFE", "SERVING_LIFE", "Pair", "Suite", "renewed"]

AUTHORITY_LIFE = timedelta(days=3650)
SERVING_LIFE = timedelta(days=90)
_LEFT = 3
"""Renewed when a third of its life is left."""
_EARLY = timedelta(minutes=5)
"""Clocks of two machines differ."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its private key, PEM."""

    certificate: bytes
    key: bytes


@dataclass(frozen=True, slots=True)
class Suite:
    """What is kept.

    `bundle` are the authorities that clients are to trust (the newest first), `authority` the one that signs, `serving` what the
    server shows.
    """

    bundle: bytes
    authority: Pair
    serving: Pair


def renewed(kept: Suite | None, names: tuple[str, ...], now: datetime) -> Suite:
    """Return what is to be kept now: `kept` itself where nothing is due. `names` are the DNS names of the server.

    A new authority stands before the former one in the bundle, so that what the former signed is trusted until it is replaced.
    """
    authority = kept.authority if kept else None
    bundle = kept.bundle if kept else b""
    if authority is None or not _good(authority, now):
        authority = _authority(now)
        bundle = authority.certificate + b"".join(_living(bundle, now))
    serving = kept.serving if kept else None
    if serving is not None and authority is (kept.authority if kept else None) and _fits(serving, authority, names, now):
        assert kept is not None
        return kept
    return Suite(bundle, authority, _serving(authority, names, now))


def _good(pair: Pair, now: datetime) -> bool:
    try:
        certificate = x509.load_pem_x509_certificate(pair.certificate)
        key = serialization.load_pem_private_key(pair.key, None)
    except (ValueError, TypeError):
        return False
    whole = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    left = certificate.not_valid_after_utc - now
    return certificate.not_valid_before_utc <= now and left > whole / _LEFT and key.public_key() == certificate.public_key()


def _fits(serving: Pair, authority: Pair, names: tuple[str, ...], now: datetime) -> bool:
    if not _good(serving, now):
        return False
    certificate = x509.load_pem_x509_certificate(serving.certificate)
    try:
        certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.certificate))
        known = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except Exception:  # whatever is wrong with it, a new one is made
        return False
    return set(names) <= set(known.get_values_for_type(x509.DNSName))


def _living(bundle: bytes, now: datetime) -> list[bytes]:
    try:
        found = x509.load_pem_x509_certificates(bundle) if bundle.strip() else []
    except ValueError:
        return []
    living = [each for each in found if each.not_valid_after_utc > now]
    return [each.public_bytes(serialization.Encoding.PEM) for each in living[:2]]


def _authority(now: datetime) -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name(f"stillhouse-metrics-ca {now:%Y-%m-%d %H:%M:%S}")
    certificate = (
        _draft(subject, subject, key.public_key(), now, AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _pair(certificate, key)


def _serving(authority: Pair, names: tuple[str, ...], now: datetime) -> Pair:
    signer = serialization.load_pem_private_key(authority.key, None)
    issuer = x509.load_pem_x509_certificate(authority.certificate)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        _draft(_name("stillhouse-metrics"), issuer.subject, key.public_key(), now, SERVING_LIFE)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(each) for each in names]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .sign(signer, hashes.SHA256())
    )
    return _pair(certificate, key)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _draft(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _EARLY)
        .not_valid_after(now + life)
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs, key_cert_sign=signs, crl_sign=signs, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _pair(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Pair:
    text = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Pair(certificate.public_bytes(serialization.Encoding.PEM), text)
