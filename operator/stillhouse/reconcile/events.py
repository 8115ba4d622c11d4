"""Events of transitions: the story that `kubectl describe` tells. Pure, and with the same name from two operators."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stillhouse.api.model import API_VERSION, KIND
from stillhouse.digests import content_hash
from stillhouse.planning.runtimes import FACTS
from stillhouse.resources.wanted import Owner

__all__ = ["transitions"]

_NORMAL = (
    "Building",
    "RollingOut",
    "Pinned",
    "Serving",
    "AwaitingCollection",
    "GatewayStarting",
    "GatewayLeaving",
    "BridgeStarting",
)
_LOCKED = (
    "Its control APIs are locked, its repository cannot change, and only the gRPC port is open to the cluster: "
    "let nobody in whom you do not trust."
)


def transitions(
    owner: Owner, before: Mapping[str, Any], after: Mapping[str, Any], instance: str, now: str
) -> list[dict[str, Any]]:
    """Return Events of the conditions whose status or reason has changed, one for a reason, `Ready` first.

    `now` is when that was seen: a reason changes also where the status, of whose change a condition has the time, does not.
    """
    known = {each["type"]: (each["status"], each["reason"]) for each in before.get("conditions") or []}
    found: list[dict[str, Any]] = []
    told: set[str] = set()
    for each in sorted(after["conditions"], key=lambda condition: condition["type"] != "Ready"):
        new = known.get(each["type"]) != (each["status"], each["reason"])
        if not new or each["reason"] in told or not _tells(each, known):
            continue
        told.add(each["reason"])
        warns = each["status"] == "False" and each["reason"] not in _NORMAL
        identity = [
            owner.uid,
            each["type"],
            each["status"],
            each["reason"],
            each["lastTransitionTime"],
            each["observedGeneration"],
        ]
        found.append(
            _event(
                owner,
                instance,
                identity=identity,
                moment=now,
                kind="Warning" if warns else "Normal",
                reason=each["reason"],
                action=f"{each['type']}{each['status']}",
                note=each["message"] or each["reason"],
            )
        )
    advised = _advisory(owner, before, after, now)
    return [*found, _event(owner, instance, **advised)] if advised else found


def _advisory(owner: Owner, before: Mapping[str, Any], after: Mapping[str, Any], now: str) -> dict[str, Any] | None:
    """Return what is known against the server, when a model comes to be served by it."""
    runtime = (after.get("revision") or {}).get("runtime", "")
    facts = FACTS.get(runtime)
    if facts is None or not facts.advisory or (before.get("revision") or {}).get("runtime") == runtime:
        return None
    return {
        "identity": [owner.uid, runtime, facts.server_version],
        "moment": now,
        "kind": "Warning",
        "reason": "RuntimeAdvisory",
        "action": "Serve",
        "note": f"{runtime}: {facts.advisory} {_LOCKED}",
    }


def _event(
    owner: Owner, instance: str, *, identity: list[Any], moment: str, kind: str, reason: str, action: str, note: str
) -> dict[str, Any]:
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": f"{owner.name}.{content_hash(identity)[:16]}", "namespace": owner.namespace},
        "eventTime": _micro(moment),
        "type": kind,
        "reason": reason[:128],
        "action": action,
        "note": note.encode()[:1024].decode("utf-8", "ignore"),
        "regarding": {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "name": owner.name,
            "namespace": owner.namespace,
            "uid": owner.uid,
        },
        "reportingController": "stillhouse.io/operator",
        "reportingInstance": instance[:128],
    }


def _tells(condition: Mapping[str, Any], known: Mapping[str, Any]) -> bool:
    """Return whether a condition's change is part of the story: what follows from another, or is so at first, is not."""
    kind, status = condition["type"], condition["status"]
    if kind == "Ready":
        return True
    if kind == "Available":
        return bool(known)
    if kind in ("GatewayAvailable", "BridgeAvailable"):
        return True
    if kind == "AgreementHolds":  # an alarm, and its end
        return bool(status == "False" or known.get(kind, ("", ""))[0] == "False")
    if kind == "GatePassed":
        return bool(status != "Unknown")
    return bool(kind in ("Accepted", "Built") and status == "False")


def _micro(moment: str) -> str:
    return moment.replace("Z", ".000000Z")
