"""What is there, as a reconcile sees it: the model, its revisions, its children."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from stillhouse.api.model import GROUP, KIND
from stillhouse.resources import labels
from stillhouse.resources.wanted import Owner

__all__ = ["Agreement", "Observed", "ended", "former_owner", "is_ready", "number_of", "owned", "revisions_newest_first"]

Body = dict[str, Any]
_NUMBER = "batch.kubernetes.io/job-completion-index"


@dataclass(frozen=True, slots=True)
class Agreement:
    """What the agreement watches of a model's gateways say: a condition. `outside`: every question that is, of status False.

    `figures`: the message's rest, as they were when it came to be so.
    """

    status: str
    reason: str
    outside: str
    figures: str

    @property
    def same(self) -> tuple[str, str, str]:
        """Return what makes it another one: figures do not."""
        return self.status, self.reason, self.outside

    @property
    def message(self) -> str:
        """Return the condition's message."""
        return f"{self.outside}: {self.figures}" if self.outside else self.figures


@dataclass(frozen=True, slots=True)
class Observed:
    """One model and what belongs to it, at one moment of the cache.

    `children` maps (kind, name) → object, ours and strangers' alike; `sources` is the namespace's binding of named sources;
    `told` maps a build's pod (its uid) to what its worker said of how far it is; `agreement` is what the gateways say of theirs,
    None where this process has heard nothing new; `middle` is the model between of its cascade, None where there is none.
    `circle`: its own name, those that its gateway's requests would come to, and its own again; () where they do not come back.
    """

    model: Body
    revisions: tuple[Body, ...] = ()
    children: Mapping[tuple[str, str], Body] = field(default_factory=dict)
    pods: tuple[Body, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)
    told: Mapping[str, str] = field(default_factory=dict)
    agreement: Agreement | None = None
    middle: Body | None = None
    circle: tuple[str, ...] = ()

    @property
    def owner(self) -> Owner:
        """Return whose children these are."""
        metadata = self.model["metadata"]
        return Owner(metadata["name"], metadata["namespace"], metadata["uid"])

    @property
    def generation(self) -> int:
        """Return the generation of the spec."""
        return int(self.model["metadata"].get("generation", 1))

    def child(self, kind: str, name: str) -> Body | None:
        """Return a child that is ours, None where there is none (a stranger's object of that name is none)."""
        body = self.children.get((kind, name))
        return body if body is not None and owned(body, self.owner.uid) else None

    def jobs(self) -> list[Body]:
        """Return our Jobs."""
        return [body for (kind, _), body in sorted(self.children.items()) if kind == "Job" and owned(body, self.owner.uid)]


def ended(job: Mapping[str, Any]) -> str:
    """Return how a Job has ended: Complete, Failed, or "" while it goes on."""
    for condition in (job.get("status") or {}).get("conditions") or []:
        if condition.get("type") in ("Complete", "Failed") and condition.get("status") == "True":
            return str(condition["type"])
    return ""


def number_of(pod: Mapping[str, Any]) -> int:
    """Return which of a Job's pods that work together it is; 0 where one works alone."""
    metadata = pod["metadata"]
    marks = {**(metadata.get("annotations") or {}), **(metadata.get("labels") or {})}
    found = str(marks.get(_NUMBER, "0"))
    return int(found) if found.isdecimal() else 0


def is_ready(pod: Mapping[str, Any]) -> bool:
    """Return whether a pod is ready and stays."""
    conditions = (pod.get("status") or {}).get("conditions") or []
    ready = any(each.get("type") == "Ready" and each.get("status") == "True" for each in conditions)
    return ready and not pod["metadata"].get("deletionTimestamp")


def owned(body: Mapping[str, Any], uid: str) -> bool:
    """Return whether an object's controller is the resource of that uid."""
    return any(each.get("uid") == uid and each.get("controller") for each in body["metadata"].get("ownerReferences") or [])


def former_owner(body: Mapping[str, Any]) -> str:
    """Return the uid of the DistilledModel that controls an object under its own model label, "" where none does.

    Of an object that is not ours: the model that had our name before us.
    """
    metadata = body["metadata"]
    name = (metadata.get("labels") or {}).get(labels.MODEL)
    for each in metadata.get("ownerReferences") or []:
        ours = each.get("kind") == KIND and str(each.get("apiVersion", "")).startswith(f"{GROUP}/")
        if ours and each.get("controller") and each.get("name") == name:
            return str(each.get("uid", ""))
    return ""


def revisions_newest_first(revisions: Iterable[Body], uid: str) -> tuple[Body, ...]:
    """Return the revisions that belong to a model, the newest first; of one second, the name decides."""
    ours = [each for each in revisions if owned(each, uid)]
    return tuple(
        sorted(ours, key=lambda each: (each["metadata"].get("creationTimestamp", ""), each["metadata"]["name"]), reverse=True)
    )
