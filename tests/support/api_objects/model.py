"""The resource itself: its name and metadata, fields that nobody knows, names that are kept free."""

from __future__ import annotations

from tests.support.api_objects.case import Case, bad
from tests.support.api_objects.fields import METRIC
from tests.support.api_objects.resources import COMPLETE, MINIMAL, RESERVED

__all__ = ["INVALID", "VALID"]

_LATER = "not available in this version"

VALID: tuple[Case, ...] = (
    *(Case(f"complete {base}", base) for base in COMPLETE),
    *(Case(f"minimal {base}", base, minimal=True) for base in MINIMAL),
    Case("null is left out", "text", {"spec.gate": None, "spec.distill.seed": None, "spec.rollout": None}),
    Case("a name of 40 characters", "text", {"metadata.name": "a" + "b" * 39}),
    Case("a name that ends with a digit", "text", {"metadata.name": "m-2"}),
    Case("labels and annotations", "text", {"metadata.labels": {"team": "search"}, "metadata.annotations": {"a": "b"}}),
    Case("status is the server's", "text", {"status": {"observedGeneration": 3}}),
)

INVALID: tuple[Case, ...] = (
    bad("unknown field", "text", "spec.gates", {}),
    bad("unknown field further in", "text", "spec.serve.batching.maxBatch", 8),
    bad("unknown field in a list", "text", f"{METRIC}.minimum", "1%"),
    bad("unknown field that is null", "text", "spec.gates", None),
    bad("snake case", "text", "spec.distill.student.hidden_layers", 2),
    bad("unknown field of the metadata", "text", "metadata.lables", {}),
    bad("a name in capitals", "text", "metadata.name", "Docstrings", minimal=True),
    bad("a name with a dot", "text", "metadata.name", "a.b"),
    bad("a name of 41 characters", "text", "metadata.name", "a" * 41),
    bad("a name that begins with a digit", "text", "metadata.name", "2m"),
    # What a later version brings.
    bad("scale to zero", "text", "spec.scale.minReplicas", 0, _LATER),
    bad("zero replicas", "text", "spec.scale.replicas", 0, _LATER),
    *(bad(f"reserved {path}", "text", path, value, _LATER) for path, value in RESERVED.items()),
)
