"""Whom a gateway asks beside the model's own pods and the larger model, as its configuration has them."""

from __future__ import annotations

from typing import Any

from stillhouse.api.cascade import Middle
from stillhouse.planning.upper import UPPER
from stillhouse.resources import names
from stillhouse.resources.services import GRPC_PORT
from stillhouse.resources.wanted import Gateway, Owner

__all__ = ["at_address", "between_at", "finds_middle", "middle_leg", "port_of", "upper_leg"]

Part = dict[str, Any]


def between_at(gateway: Gateway) -> Middle | None:
    """Return what the spec of today says of the model between that the cascade was solved with; None where it says nothing."""
    cascade, middle = gateway.edge.cascade, gateway.middle
    said = cascade.middle if cascade is not None else None
    return said if said is not None and middle is not None and said.model == middle.model else None


def _asks(gateway: Gateway) -> bool:
    return gateway.cascade is not None and gateway.edge.cascade is not None and gateway.middle is not None


def finds_middle(gateway: Gateway) -> bool:
    """Return whether the model between is asked by a Service of the gateway's own."""
    said = between_at(gateway)
    return _asks(gateway) and (said is None or said.address is None)


def middle_leg(owner: Owner, gateway: Gateway, found: dict[str, str]) -> Part | None:
    """Return the model between; None where the gateway has no such leg. `found`: folders of Secrets by the field that names them.

    At an address it is whoever answers there. Else it is the pods that serve what the thresholds were solved with, and where
    there are none it is away, which the cascade knows: the larger model is asked.
    """
    if gateway.middle is None or not _asks(gateway):
        return None
    said = between_at(gateway)
    if said is not None and said.address is not None:
        return at_address(said.model, said.address, found.get("edge.backendAuthority"), found.get("edge.cascade.middle.token"))
    service = names.between(owner.name, gateway.middle.digest)
    where = {"kind": "slices", "namespace": owner.namespace, "service": service, "port": GRPC_PORT}
    return {"model": gateway.middle.model, "tls": False, "authority": None, **where}


def upper_leg(owner: Owner, gateway: Gateway, found: dict[str, str]) -> Part:
    """Return who has the upper half: the pods of the same revision, since halves of two give nothing; or an address."""
    cut = gateway.edge.cut
    model = owner.name + UPPER
    if cut is not None and cut.address is not None:
        return at_address(model, cut.address, found.get("edge.backendAuthority"), found.get("edge.backendToken"))
    service = names.of_revision(gateway.revision)
    where = {"kind": "slices", "namespace": owner.namespace, "service": service, "port": GRPC_PORT}
    return {"model": model, "tls": False, "authority": None, **where}


def at_address(model: str, address: str, authority: str | None, token: str | None) -> Part:
    """Return a server at `grpc(s)://HOST:PORT`. `authority`, `token`: folders of Secrets."""
    scheme, _, at = address.partition("://")
    secure = scheme == "grpcs"
    shown = {"token": f"{token}/token"} if token else {}
    known = f"{authority}/ca.crt" if secure and authority else None
    return {"model": model, "authority": known, "kind": "backends", "backends": {at: 1.0}, "tls": secure, **shown}


def port_of(address: str) -> int:
    """Return the port of an address of the spec."""
    return int(address.rpartition(":")[2])
