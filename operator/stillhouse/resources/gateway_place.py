"""Where a gateway's pod has what its configuration names: the store, Secrets, and a volume of its own for what it writes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from stillhouse.api.cascade import Larger
from stillhouse.api.edge import Edge, Queued
from stillhouse.api.preprocess import Preprocess
from stillhouse.api.scalars import parse_cpu, parse_quantity
from stillhouse.planning.gateway import Place, gateway_config
from stillhouse.planning.pipeline import pipeline_config, step_models
from stillhouse.resources import names, pods, quantities
from stillhouse.resources.broker import behind_broker
from stillhouse.resources.gateway_legs import at_address, finds_middle, middle_leg, upper_leg
from stillhouse.resources.services import GRPC_PORT, HTTP_PORT, METRICS_PORT
from stillhouse.resources.wanted import ClusterSettings, Gateway, Owner

__all__ = [
    "CONFIG_FILE",
    "CONFIG_FOLDER",
    "SECRETS",
    "Mounted",
    "config_text",
    "mounted",
    "mounts",
    "outlives",
    "secrets",
    "stored",
    "watches",
    "written",
]

CONFIG_FOLDER, CONFIG_FILE = "/etc/stillhouse/config", "gateway.json"
SECRETS = "/etc/stillhouse/secrets"
_DATA = "/data"
_SPARE = 64 << 20
"""Bytes of the data's volume beyond the bounds of what is in it: those are kept by deleting, after the writing."""
_ANY = "0.0.0.0"  # noqa: S104 - in a pod
Part = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Mounted:
    """A Secret of the spec: the field that names it, its name, where it is mounted."""

    field: str
    name: str
    folder: str


def secrets(edge: Edge) -> tuple[Mounted, ...]:
    """Return every Secret that `spec.edge` names."""
    audit = edge.guard.audit if edge.guard else None
    middle = edge.cascade.middle if edge.cascade else None
    named = (
        ("edge.tls.secret", "tls", edge.tls.secret if edge.tls else None),
        ("edge.tls.clientAuthority", "client-authority", edge.tls.client_authority if edge.tls else None),
        ("edge.clients.tokens", "tokens", edge.clients.tokens),
        ("edge.backendAuthority", "authority", edge.backend_authority),
        ("edge.backendToken", "backend-token", edge.backend_token),
        ("edge.cascade.middle.token", "middle-token", middle.token if middle else None),
        ("edge.broker.credentials", "broker", edge.broker.credentials if edge.broker else None),
        ("edge.broker.certificate", "broker-certificate", edge.broker.certificate if edge.broker else None),
        ("edge.guard.audit.key", "audit", audit.key if audit else None),
    )
    return tuple(Mounted(field, name, f"{SECRETS}/{part}") for field, part, name in named if name)


def mounted(gateway: Gateway) -> tuple[Mounted, ...]:
    """Return every Secret that a gateway's pods have: those of `spec.edge`, and of a pipeline's steps."""
    found = [*secrets(gateway.edge)]
    for position, step in enumerate(gateway.spec.pipeline.steps if step_models(gateway.spec) and gateway.spec.pipeline else ()):
        for field, part, name in (
            ("backendAuthority", "authority", step.backend_authority),
            ("backendToken", "token", step.backend_token),
        ):
            if name:
                found.append(Mounted(f"pipeline.steps[{position}].{field}", name, f"{SECRETS}/step-{step.name}-{part}"))
    return tuple(found)


def _shown(owner: Owner, gateway: Gateway) -> dict[str, Part]:
    """Return what a pipeline's steps are shown, by their names."""
    found = {each.field: each.folder for each in mounted(gateway)}
    steps = gateway.spec.pipeline.steps if gateway.spec.pipeline else ()
    parts = {}
    for position, step in enumerate(steps):
        authority, token = (found.get(f"pipeline.steps[{position}].{each}") for each in ("backendAuthority", "backendToken"))
        parts[step.name] = {**_over_tls(owner, step.model or "", authority), **({"token": f"{token}/token"} if token else {})}
    return parts


def _over_tls(owner: Owner, model: str, authority: str | None) -> Part:
    """Return how the gateway of another DistilledModel is known: its pods are found by addresses, which no certificate names."""
    name = f"{names.client_service(model)}.{owner.namespace}.svc"
    return {"tls": True, "authority": f"{authority}/ca.crt", "serverName": name} if authority else {}


def watches(gateway: Gateway) -> bool:
    """Return whether a gateway's backends are found by the API server: pods of the model, or of another one beside it."""
    cascade = gateway.edge.cascade if gateway.cascade else None
    beside = cascade is not None and (cascade.larger.address is None or finds_middle(gateway))
    steps = gateway.edge.preprocess if gateway.steps else None
    return gateway.asks_pods or bool(step_models(gateway.spec)) or beside or (steps is not None and steps.address is None)


def stored(gateway: Gateway) -> bool:
    """Return whether it reads the store: its cascade lies there, and where the model or half of it runs in it, that."""
    return gateway.bound


def config_text(owner: Owner, gateway: Gateway, settings: ClusterSettings) -> str:
    """Return the configuration file: JSON in one line, the same for the same spec and revision."""
    edge = gateway.edge
    found = {each.field: each.folder for each in secrets(edge)}
    tls = None
    if edge.tls:
        folder = found["edge.tls.secret"]
        authority = found.get("edge.tls.clientAuthority")
        tls = {"certificate": f"{folder}/tls.crt", "key": f"{folder}/tls.key"}
        tls |= {"clientAuthority": f"{authority}/ca.crt"} if authority else {}
    audit = found.get("edge.guard.audit.key")
    at = {each: _beside(owner, each) for each in step_models(gateway.spec)}
    steps = pipeline_config(gateway.spec, at, _shown(owner, gateway))
    place = Place(
        listen={"grpc": f"{_ANY}:{GRPC_PORT}", "rest": f"{_ANY}:{HTTP_PORT}", "metrics": f"{_ANY}:{METRICS_PORT}"},
        edge=_first(owner, gateway, settings),
        larger=_beyond(owner, gateway),
        middle=middle_leg(owner, gateway, found),
        cascade=_object(gateway.cascade, settings) if gateway.cascade else "",
        # Of a claim: so that another model's gateway which was given the same one has a queue of its own.
        data=f"{_DATA}/{owner.name}" if outlives(edge) else _DATA,
        tls=tls,
        tokens=found.get("edge.clients.tokens"),
        audit_key=f"{audit}/key" if audit else None,
        extra={"pipeline": steps} if steps else {},
    )
    return json.dumps(gateway_config(owner.name, edge, place), sort_keys=True, separators=(",", ":"))


def _first(owner: Owner, gateway: Gateway, settings: ClusterSettings) -> Part:
    of = {"digest": gateway.digest, "variant": gateway.precision} if gateway.bound else {}
    if gateway.engine or gateway.lower:
        cpu = gateway.edge.run.resources.limits.cpu
        threads = max(1, int(parse_cpu(cpu))) if cpu else 1
        kind, digest = ("lower", gateway.cut) if gateway.lower else ("engine", gateway.digest)
        return {"kind": kind, "folder": _object(digest, settings), "threads": threads, **of}
    if gateway.steps:
        return {"kind": "steps", "folder": _object(gateway.digest, settings), "allowed": sorted(settings.edge_packages), **of}
    # Who has no confidence asks whichever revision answers, so that a new one changes nothing here.
    service = names.of_revision(gateway.revision) if gateway.bound else names.backend(owner.name)
    return {"kind": "slices", "namespace": owner.namespace, "service": service, "port": GRPC_PORT, **of}


def _beyond(owner: Owner, gateway: Gateway) -> Part | None:
    if gateway.lower:
        return upper_leg(owner, gateway, {each.field: each.folder for each in secrets(gateway.edge)})
    cascade, steps = gateway.edge.cascade, gateway.edge.preprocess
    larger: Larger | Preprocess
    if gateway.steps and steps is not None:
        larger = steps
    elif cascade is not None and gateway.cascade is not None:
        larger = cascade.larger
    else:
        return None
    found = {each.field: each.folder for each in secrets(gateway.edge)}
    authority, token = found.get("edge.backendAuthority"), found.get("edge.backendToken")
    shown = {"token": f"{token}/token"} if token else {}
    if larger.address is None:
        return {**_beside(owner, larger.model), **_over_tls(owner, larger.model, authority), **shown}
    if larger.address.startswith("mqtt"):
        return behind_broker(larger.model, larger.address, found)
    return at_address(larger.model, larger.address, authority, token)


def _beside(owner: Owner, model: str) -> Part:
    """Return where another DistilledModel of the namespace is: whoever its clients' Service leads to."""
    where = {"kind": "slices", "namespace": owner.namespace, "service": names.client_service(model), "port": GRPC_PORT}
    return {"model": model, "tls": False, "authority": None, **where}


def _object(digest: str | None, settings: ClusterSettings) -> str:
    """Return where an artifact lies in the mounted store, as `clients.store.objects` has it."""
    return f"{pods.store(settings.store_claim)}/objects/{(digest or '').replace(':', '-')}"


def mounts(gateway: Gateway, settings: ClusterSettings, annotation: str) -> tuple[list[Part], list[Part]]:
    """Return volumes and mounts of a pod whose configuration is in an annotation.

    As a file of an annotation it is the template's: an old pod keeps its own while new ones have the new one, and going back
    to a former template brings its configuration back.
    """
    told = {"path": CONFIG_FILE, "fieldRef": {"apiVersion": "v1", "fieldPath": f"metadata.annotations['{annotation}']"}}
    volumes: list[Part] = [
        {"name": "config", "downwardAPI": {"items": [told]}},
        {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}},
    ]
    places: list[Part] = [
        {"name": "config", "mountPath": CONFIG_FOLDER, "readOnly": True},
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - in a container of our own
    ]
    size = written(gateway.edge)
    if size:
        limit = {"sizeLimit": quantities.memory(size + _SPARE)}
        claim = {"persistentVolumeClaim": {"claimName": gateway.edge.run.claim}}
        volumes.append({"name": "data", **(claim if outlives(gateway.edge) else {"emptyDir": limit})})
        places.append({"name": "data", "mountPath": _DATA})
    if stored(gateway):
        volumes.append(pods.claim_volume(settings.store_claim, 0, read_only=True))
        places.append(pods.claim(settings.store_claim, 0, read_only=True))
    for each in mounted(gateway):
        name = each.folder.rpartition("/")[2]
        volumes.append({"name": name, "secret": {"secretName": each.name, "defaultMode": 0o440}})
        places.append({"name": name, "mountPath": each.folder, "readOnly": True})
    return volumes, places


def outlives(edge: Edge) -> bool:
    """Return whether what a gateway writes is on a claim: then it has one pod at a time."""
    return edge.run.claim is not None and written(edge) > 0


def written(edge: Edge) -> int:
    """Return the bytes that queue, audit log and collected requests may take."""
    size = 0
    if edge.away.policy == "queue":
        size += parse_quantity((edge.away.queue or Queued()).max_size)
    if edge.guard and edge.guard.audit:
        size += parse_quantity(edge.guard.audit.max_size)
    if edge.agreement and edge.agreement.collect:
        size += parse_quantity(edge.agreement.collect.max_size)
    return size
