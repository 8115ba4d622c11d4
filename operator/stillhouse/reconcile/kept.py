"""One object of the cache: its text, and what is asked of it without reading that."""

from __future__ import annotations

import sys

import orjson

from stillhouse.clients.kube.versions import version_of
from stillhouse.reconcile.observed import Body, ended

__all__ = ["Kept"]

_MODEL, _POD, _CONFIG_MAP, _JOB = "DistilledModel", "Pod", "ConfigMap", "Job"
_STATUS_COUNTS = (_MODEL, "Deployment", "DaemonSet", "Job", _POD)
_META = ("labels", "annotations", "ownerReferences", "deletionTimestamp")


class Kept:
    """One object: its JSON text, which takes a fourth of the memory of the data, and what is asked without reading it."""

    __slots__ = ("job", "leaving", "matter", "name", "owner", "text", "uid", "version")

    def __init__(self, body: Body) -> None:
        # Field managers are more than half of an object, and nobody reads them here: whoever writes asks for them anew.
        metadata = {name: value for name, value in body["metadata"].items() if name != "managedFields"}
        kept = {**body, "metadata": metadata}
        if body["kind"] == _POD:
            kept.pop("spec", None)  # who reads a pod here asks how it fares
        self.text = orjson.dumps(kept)
        self.uid: str = sys.intern(str(metadata.get("uid", "")))
        self.version = version_of(metadata)
        self.name: str = metadata["name"]
        self.matter = hash(_matter(body))
        self.job = _how(body) if body["kind"] == _JOB else ""
        self.leaving = bool(metadata.get("deletionTimestamp"))
        self.owner = sys.intern(_controller(metadata)) if body["kind"] == _JOB else ""

    def body(self) -> Body:
        """Return the object, without what nobody reads here."""
        found: Body = orjson.loads(self.text)
        return found


def _how(job: Body) -> str:
    """Return `ended`, `held` (Kueue has not let it go yet) or `active`."""
    return "ended" if ended(job) else "held" if job.get("spec", {}).get("suspend") else "active"


def _controller(metadata: Body) -> str:
    """Return the uid of the object that an object belongs to, empty where it belongs to none."""
    return next((str(each.get("uid", "")) for each in metadata.get("ownerReferences") or [] if each.get("controller")), "")


def _matter(body: Body) -> bytes:
    """Return what of an object can be a reason to look at its model again."""
    # All else that somebody decides, wherever it stands: a ServiceAccount has no spec, a ConfigMap its data.
    left_out = (
        ("apiVersion", "kind", "metadata") if body["kind"] in _STATUS_COUNTS else ("apiVersion", "kind", "metadata", "status")
    )
    content = {name: value for name, value in body.items() if name not in left_out}
    chosen = [content, [body["metadata"].get(part) for part in _META]]
    return orjson.dumps(chosen, option=orjson.OPT_SORT_KEYS)
