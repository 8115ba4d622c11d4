"""ConfigMap `stillhouse-sources`: what the named sources of a namespace mean. `still push` writes its part of it and no other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stillhouse.clients.kube.interface import AlreadyExists, Conflict, Kube
from stillhouse.clients.kube.kinds import CONFIG_MAP
from stillhouse.errors import ClusterError
from stillhouse.resources.labels import SOURCES_LABEL, SOURCES_NAME

__all__ = ["MANAGER", "bind", "key_of"]

MANAGER = "still-push"
"""Field manager: who binds other names there, by hand or from git, keeps them."""
_ATTEMPTS = 5
_LABEL, _, _VALUE = SOURCES_LABEL.partition("=")


def key_of(name: str) -> str:
    """Return the ConfigMap's key of a name: it may have no colon, so `models.minilm` stands for `models:minilm`."""
    return name.replace(":", ".", 1)


async def bind(kube: Kube, namespace: str, targets: Mapping[str, str]) -> bool:
    """Bind names (`models:minilm`) to URIs; return whether anything had to be written.

    Raises:
        KubeError: the server refuses.
        ClusterError: somebody else writes there all the time.
    """
    wanted = {key_of(name): uri for name, uri in targets.items()}
    about = {"name": SOURCES_NAME, "namespace": namespace}
    for _ in range(_ATTEMPTS):
        live = await kube.get(CONFIG_MAP, namespace, SOURCES_NAME)
        if live is None:
            empty = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {**about, "labels": {_LABEL: _VALUE}}}
            try:
                live = await kube.create(CONFIG_MAP, namespace, empty, manager=MANAGER)
            except AlreadyExists:
                continue
        there = live.get("data") or {}
        marked = (live["metadata"].get("labels") or {}).get(_LABEL) == _VALUE
        if marked and all(there.get(key) == uri for key, uri in wanted.items()):
            return False
        # An apply without what an earlier push bound would take that away.
        before = {key: there[key] for key in _applied(live) if key in there}
        metadata = {**about, "labels": {_LABEL: _VALUE}}
        metadata |= {name: live["metadata"][name] for name in ("uid", "resourceVersion")}
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {**before, **wanted}}
        try:
            await kube.apply(CONFIG_MAP, namespace, body, manager=MANAGER)
        except Conflict:
            continue
        return True
    raise ClusterError(
        "the bindings are changed by somebody else all the time",
        field=f"ConfigMap {SOURCES_NAME}",
        found=f"{_ATTEMPTS} conflicts",
        fix="run the command again: nothing is uploaded twice",
    )


def _applied(live: Mapping[str, Any]) -> list[str]:
    """Return the keys that earlier pushes have applied."""
    return [
        field.removeprefix("f:")
        for entry in live["metadata"].get("managedFields") or []
        if entry.get("manager") == MANAGER and entry.get("operation") == "Apply"
        for field in (entry.get("fieldsV1") or {}).get("f:data") or {}
        if field.startswith("f:")
    ]
