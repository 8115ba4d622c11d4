"""What a worker is given: the resource, what its URIs are bound to here, and where claims are mounted."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from stillhouse.entrypoints.local.workspace import ServedBy
from stillhouse.errors import SourceError, UsageError
from stillhouse.resources.labels import REBUILD

__all__ = [
    "MODEL_VARIABLE",
    "NEEDED_VARIABLE",
    "REQUEST_VARIABLE",
    "SERVER_VARIABLE",
    "SOURCES_VARIABLE",
    "Given",
    "Needed",
    "localized",
    "read",
]

MODEL_VARIABLE = "STILLHOUSE_MODEL"
SOURCES_VARIABLE = "STILLHOUSE_SOURCES"
REQUEST_VARIABLE = "STILLHOUSE_REQUEST"
SERVER_VARIABLE = "STILLHOUSE_SERVER"
NEEDED_VARIABLE = "STILLHOUSE_NEEDED"
_SCHEME = "pvc://"


@dataclass(frozen=True, slots=True)
class Needed:
    """What the model's namespace needs of its store: models, and beginnings of the digests that its ModelRevisions name."""

    namespace: str
    models: frozenset[str]
    digests: frozenset[str]

    def names(self, digest: str) -> bool:
        """Return whether a ModelRevision names an object; of two that begin alike, both are taken for named."""
        return any(digest.startswith(each) for each in self.digests)


@dataclass(frozen=True, slots=True)
class Given:
    """`model` is the resource, `sources` URI of the spec → where that is now, `rebuild` the token of its annotation.

    `server` is the container that will serve, None where the operator names none; `request` the hash of what was asked for, as
    the operator has it; `needed` is what must not be freed, None: free nothing.
    """

    model: dict[str, Any]
    sources: dict[str, str]
    rebuild: str
    server: ServedBy | None = None
    request: str = ""
    needed: Needed | None = None


def read(environment: Mapping[str, str], claims: Path) -> Given:
    """Read the environment that `resources/jobs.py` wrote. `claims` is the folder that every PersistentVolumeClaim lies in.

    Raises:
        UsageError: a variable is missing or no JSON: worker and operator are not of one version.
        SourceError: a URI leads out of its claim.
    """
    model, sources = (_json(environment, name) for name in (MODEL_VARIABLE, SOURCES_VARIABLE))
    bound = {uri: localized(uri, str(target), claims) for uri, target in sources.items()}
    rebuild = ((model.get("metadata") or {}).get("annotations") or {}).get(REBUILD, "")
    rewritten = _rewritten(model, {uri: target for uri, target in bound.items() if "://" in uri})
    server = _server(environment) if SERVER_VARIABLE in environment else None
    needed = _needed(environment) if NEEDED_VARIABLE in environment else None
    return Given(rewritten, bound, str(rebuild), server, environment.get(REQUEST_VARIABLE, ""), needed)


def _needed(environment: Mapping[str, str]) -> Needed:
    data = _json(environment, NEEDED_VARIABLE)
    try:
        models, digests = (frozenset(str(each) for each in data[name]) for name in ("models", "digests"))
        if "" in digests:  # it would name everything, which frees nothing for ever
            raise ValueError("an empty digest")
        return Needed(str(data["namespace"]), models, digests)
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(
            f"{NEEDED_VARIABLE} is not what an operator of this version writes",
            field=NEEDED_VARIABLE,
            found=str(data)[:200],
            fix="install one version of both",
        ) from error


def _server(environment: Mapping[str, str]) -> ServedBy:
    data = _json(environment, SERVER_VARIABLE)
    try:
        return ServedBy(str(data["image"]), float(data["cpus"]))
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(
            f"{SERVER_VARIABLE} is not what an operator of this version writes",
            field=SERVER_VARIABLE,
            found=str(data)[:200],
            fix="install one version of both",
        ) from error


def localized(uri: str, target: str, claims: Path) -> str:
    """Return where a bound URI is in this pod: `pvc://CLAIM/PATH` is a folder or file below `claims`, the rest is as it was.

    Raises:
        SourceError: the path leads out of the claim.
    """
    if not target.startswith(_SCHEME):
        return target
    claim, _, path = target.removeprefix(_SCHEME).partition("/")
    inner = posixpath.normpath("/" + path.lstrip("/"))
    if not claim or ".." in path.split("/") or "/" in claim or claim.startswith("."):
        raise SourceError(
            "the path leads out of its claim",
            field=uri,
            found=target,
            allowed="pvc://CLAIM/PATH",
            fix="name a path inside the claim",
        )
    return "file://" + quote(str(claims / claim) + ("" if inner == "/" else inner))


def _json(environment: Mapping[str, str], name: str) -> dict[str, Any]:
    try:
        data = json.loads(environment[name])
    except (KeyError, ValueError) as error:
        raise UsageError(
            f"{name} is not what an operator of this version writes",
            field=name,
            found=str(error),
            fix="install one version of both",
        ) from error
    if not isinstance(data, dict):
        raise UsageError(f"{name} is no JSON object", field=name, found=type(data).__name__, fix="install one version of both")
    return data


def _rewritten(value: Any, targets: Mapping[str, str]) -> Any:
    """Return the resource with those URIs that are bound elsewhere replaced."""
    if isinstance(value, dict):
        return {
            name: targets[inner] if name == "uri" and isinstance(inner, str) and inner in targets else _rewritten(inner, targets)
            for name, inner in value.items()
        }
    return [_rewritten(inner, targets) for inner in value] if isinstance(value, list) else value
