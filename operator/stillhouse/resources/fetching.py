"""What the pod that fetches sources is given: the administrator's rules, and the Secrets that the model names, as files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from stillhouse.api.scalars import parse_quantity
from stillhouse.resources.wanted import ClusterSettings

__all__ = ["NOTHING", "Access", "access", "secrets"]

_FOLDER = "/credentials"
Part = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Access:
    """Parts of a pod: environment and mounts of the container, volumes."""

    environment: tuple[Part, ...] = ()
    mounts: tuple[Part, ...] = ()
    volumes: tuple[Part, ...] = ()


NOTHING = Access()


def secrets(spec: Part) -> list[str]:
    """Return the Secrets that a DistilledModel's spec names, each once."""
    return list(dict.fromkeys(str(each["secret"]) for each in spec.get("credentials") or []))


def access(spec: Part, settings: ClusterSettings) -> Access:
    """Return what is for the spec of a DistilledModel. Secrets are mounted as files: an environment shows in every listing."""
    named = secrets(spec)
    places = {secret: f"{_FOLDER}/{position}" for position, secret in enumerate(named)}
    given = [
        {"for": each["for"], "secret": each["secret"], "path": places[each["secret"]]} for each in spec.get("credentials") or []
    ]
    rules = {
        "STILLHOUSE_SOURCE_HOSTS": ",".join(settings.source_hosts),
        "STILLHOUSE_SOURCE_NETWORKS": ",".join(settings.source_networks),
        "STILLHOUSE_SOURCE_LIMIT": str(parse_quantity(settings.source_limit)),
        "STILLHOUSE_CREDENTIALS": json.dumps(given, sort_keys=True) if given else "",
    }
    return Access(
        tuple({"name": name, "value": value} for name, value in rules.items() if value),
        tuple(
            {"name": f"credential-{position}", "mountPath": places[secret], "readOnly": True}
            for position, secret in enumerate(named)
        ),
        tuple(
            {"name": f"credential-{position}", "secret": {"secretName": secret, "defaultMode": 0o440}}
            for position, secret in enumerate(named)
        ),
    )
