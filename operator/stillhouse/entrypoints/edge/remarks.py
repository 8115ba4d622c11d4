"""What is to be said of a gateway on this machine before it starts, and hinders nothing."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stillhouse.api.edge import Edge
from stillhouse.api.model import DistilledModel
from stillhouse.clients.store.local import LocalStore
from stillhouse.entrypoints.edge.given import Given
from stillhouse.errors import UsageError
from stillhouse.planning.build import request_hash

__all__ = ["missing", "older", "other_source"]


def older(model: DistilledModel, file: Path, revision: Mapping[str, Any]) -> str:
    """Say that the file has changed since the revision was built; what builds of before have not written down is not told."""
    built, asked = str(revision.get("fileHash") or ""), request_hash(model, {})
    if not built or built == asked:
        return ""
    when = f", built {revision['time']}" if revision.get("time") else ""
    return (
        f"revision {revision['digest'][7:19]} serves{when} from request {built[:12]}; {file} asks for {asked[:12]} now, which is"
        f" not built: still build {file}"
    )


def missing(edge: Edge, given: Given) -> tuple[str, ...]:
    """Return what the file asks for by a Secret of a cluster, and no option gives here.

    Raises:
        UsageError: it asks for tokens, and other machines could ask without one.
    """
    if edge.clients.tokens and given.tokens is None and not _of_this_machine(given.host):
        raise UsageError(
            "the file asks for tokens, and there are none here: everybody who reaches this address could ask",
            field="--tokens",
            found=f"spec.edge.clients.tokens: {edge.clients.tokens}, a Secret of a cluster; --host {given.host}",
            fix="give --tokens FOLDER, with a file for each client: its name, in it its token",
        )
    asked = {
        "clients.tokens: everybody on this machine may ask; give --tokens FOLDER": edge.clients.tokens and not given.tokens,
        "tls: nothing is encrypted; give --tls-certificate and --tls-key": edge.tls and not given.certificate,
        "guard.audit.key: records have no MAC; give --audit-key FILE": (
            edge.guard and edge.guard.audit and edge.guard.audit.key and not given.audit_key
        ),
        "broker.credentials: the broker is told no user; give --cloud-username-file and --cloud-password-file": (
            edge.broker and edge.broker.credentials and not given.at_broker.username
        ),
        "broker.certificate: the broker is shown none; give --cloud-certificate and --cloud-key": (
            edge.broker and edge.broker.certificate and not given.at_broker.certificate
        ),
    }
    return tuple(f"spec.edge.{said}" for said, holds in asked.items() if holds)


def _of_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def other_source(store: LocalStore, model: DistilledModel, revision: Mapping[str, Any]) -> str:
    """Say that the larger model was made of another source than the one that the threshold was solved against.

    Nothing is said of what was built on other machines, or before builds wrote down what they were made of.
    """
    edge = model.spec.edge
    if edge is None or edge.cascade is None:
        return ""
    name = edge.cascade.larger.model
    mine, theirs = _source(revision), _source(store.state(name).get("revision") or {})
    if mine is None or theirs is None or mine["digest"] == theirs["digest"]:
        return ""
    return (
        f"spec.edge.cascade.larger: {name} was built of {theirs['uri']} ({theirs['digest'][7:19]}), and the threshold is solved"
        f" against spec.source, {mine['uri']} ({mine['digest'][7:19]}): the agreement that is told is not with {name}. Build"
        " both of one source"
    )


def _source(revision: Mapping[str, Any]) -> Mapping[str, Any] | None:
    sources = (revision.get("lineage") or {}).get("sources") or []
    return next((each for each in sources if each.get("name") == "source" and each.get("digest")), None)
