"""What is wrong between us and a broker, in words with what to do about it. Clients may see them: they name no file of ours."""

from __future__ import annotations

import socket
import ssl

from stillhouse.edge.mqtt.broker import Broker

__all__ = ["hint", "refusal", "unreached"]

_REFUSED = ("Bad user name or password", "Not authorized")
_TAKEN = "Session taken over"


def unreached(broker: Broker, error: BaseException | None) -> str:
    """Say why there is no connection."""
    where = f"{broker.host}:{broker.port}"
    if isinstance(error, ssl.SSLCertVerificationError):
        fix = "give the authority that signed it (--authority, --cloud-authority), and a name that it holds"
        return f"the certificate of the broker {where} is wrong: {error.verify_message or error}; {error.reason}; {fix}"
    if isinstance(error, ssl.SSLError):
        return (
            f"no TLS with the broker {where}: {error}; see whether this is its port for TLS, and whether it wants a certificate"
        )
    if isinstance(error, socket.gaierror):
        return f"the broker cannot be reached: nobody knows the name {broker.host} ({error}); mend the address"
    fix = "see whether it runs there, and whether a firewall lets us"
    return f"the broker cannot be reached at {where}: {error}; {fix}"


def refusal(broker: Broker, reason: str) -> str:
    """Say why the broker says no."""
    if reason not in _REFUSED:
        return f"the broker refuses us: {reason}"
    if broker.credentials is None:
        return f"the broker refuses us: {reason}; give it a user and a password (files), or a certificate"
    return f"the broker refuses us: {reason}; mend the files of user and password: they are read anew"


def hint(reason: str) -> str:
    """Return what to do about a connection that broke, where that is known."""
    return "; another client has this name at the broker: give each its own (--cloud-device, --name)" if reason == _TAKEN else ""
