"""What is shown to a broker: files of mounted Secrets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["behind_broker", "files"]


def files(found: Mapping[str, str], authority: str, shown: str) -> dict[str, str]:
    """Return the files by what they are.

    `found`: folders by the field that names the Secret; `authority`, `shown`: such fields, of which the second one has
    `credentials` and `certificate`.
    """
    named = (
        ("authority", authority, "ca.crt"),
        ("certificate", f"{shown}.certificate", "tls.crt"),
        ("key", f"{shown}.certificate", "tls.key"),
        ("username", f"{shown}.credentials", "username"),
        ("password", f"{shown}.credentials", "password"),
    )
    return {what: f"{found[field]}/{file}" for what, field, file in named if field in found}


def behind_broker(model: str, address: str, found: Mapping[str, str]) -> dict[str, Any]:
    """Return a gateway's larger model at `mqtt(s)://HOST:PORT`. Without a device's name each pod has its own."""
    secure = address.startswith("mqtts://")
    shown = files(found, "edge.backendAuthority" if secure else "", "edge.broker")
    return {"kind": "mqtt", "model": model, "broker": address, "device": "", **shown}
