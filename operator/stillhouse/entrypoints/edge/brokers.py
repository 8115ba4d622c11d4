"""What `still edge` is told of a broker: the larger model's place in the gateway's configuration."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillhouse.edge.mqtt.broker import Credentials, broker
from stillhouse.edge.mqtt.topics import check_device, machine
from stillhouse.errors import UsageError

__all__ = ["SCHEMES", "AtBroker", "behind_broker"]

SCHEMES = ("mqtt", "mqtts")


@dataclass(frozen=True, slots=True)
class AtBroker:
    """Files of what is shown to a broker. `device`: this gateway's name there; None: the user's, else the machine's."""

    username: Path | None = None
    password: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    device: str | None = None

    @property
    def given(self) -> bool:
        """Return whether anything is said."""
        return self != AtBroker()


def behind_broker(model: str, address: str, authority: Path | None, at: AtBroker) -> dict[str, Any]:
    """Return the configuration of a model behind a broker.

    Raises:
        UsageError: the address, a file or the device's name is wrong, or one of two is missing.
    """
    for field, pair in (
        ("--cloud-username-file, --cloud-password-file", (at.username, at.password)),
        ("--cloud-certificate, --cloud-key", (at.certificate, at.key)),
    ):
        if (pair[0] is None) != (pair[1] is None):
            raise UsageError("these belong together", field=field, fix="give both, or neither")
    credentials = Credentials(at.username, at.password) if at.username and at.password else None
    own = (at.certificate, at.key) if at.certificate and at.key else None
    broker(address, authority=authority, own=own, credentials=credentials)
    device = at.device
    if device is None:  # a broker that holds devices to their names knows this one by its user
        device = credentials.read()[0] if credentials else machine()
    files = {
        "authority": authority,
        "certificate": at.certificate,
        "key": at.key,
        "username": at.username,
        "password": at.password,
    }
    return {
        "kind": "mqtt",
        "model": model,
        "broker": address,
        "device": check_device(device),
        **{name: str(path.absolute()) for name, path in files.items() if path is not None},
    }
