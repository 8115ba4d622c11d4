"""`edge.cut`: a model in two halves."""

from __future__ import annotations

from typing import Any

from tests.support.api_objects.case import GONE, Case
from tests.support.api_objects.fields import EDGE

__all__ = ["INVALID", "VALID"]

_CUT: dict[str, Any] = {"layer": "encoder.2"}
_CUT_WHOLE = {**_CUT, "encoding": "int8-rows", "maxDifference": "0.05", "address": "grpcs://cloud.example:443"}
_GATE: dict[str, Any] = {"data": {"uri": "data:gate"}}

VALID: tuple[Case, ...] = (
    Case("a model in halves", "text", {"spec.edge": {"cut": _CUT}}),
    Case("halves of every field", "text", {"spec.edge": {"cut": _CUT_WHOLE}}),
    Case(
        "a token for who has the upper half",
        "text",
        {"spec.edge": {"cut": {**_CUT, "address": "grpcs://halves.example:443"}, "backendToken": "halves"}},
    ),
)

INVALID: tuple[Case, ...] = (
    Case("a cut and a cascade", "class", {f"{EDGE}.cut": _CUT}, f"{EDGE}.cut", "excludes cascade and preprocess"),
    Case(
        "a cut and steps",
        "text",
        {"spec.edge": {"cut": _CUT, "preprocess": {"steps": [{"kind": "tokenise"}], "model": "large"}}},
        f"{EDGE}.cut",
        "excludes cascade and preprocess",
    ),
    Case(
        "a token shown to the pods of the upper half",
        "text",
        {"spec.edge": {"cut": _CUT, "backendToken": "halves"}},
        f"{EDGE}.backendToken",
        "over TLS alone",
    ),
    Case("a cut without a gate", "text", {"spec.edge": {"cut": _CUT}, "spec.gate": GONE}, f"{EDGE}.cut", "needs gate"),
    Case("a cut and a pipeline", "apart", {"spec.edge": {"cut": _CUT}, "spec.gate": _GATE}, f"{EDGE}.cut", "and a pipeline"),
    Case(
        "a cut of images",
        "image",
        {"spec.edge": {"cut": _CUT}, "spec.pipeline": GONE, "spec.gate": _GATE},
        f"{EDGE}.cut",
        "texts",
    ),
    Case("a cut on GPUs", "class", {"spec.edge": {"cut": _CUT}}, f"{EDGE}.cut", "triton-ort-cpu"),
    Case("a cut of no layer", "text", {"spec.edge": {"cut": {}}}, f"{EDGE}.cut.layer", ""),
    Case("a cut of another encoding", "text", {"spec.edge": {"cut": {**_CUT, "encoding": "zstd"}}}, f"{EDGE}.cut.encoding", ""),
    Case(
        "a broker of a cut",
        "text",
        {EDGE: {"cut": {**_CUT, "address": "mqtts://broker:8883"}, "broker": {"credentials": "gateway"}}},
        f"{EDGE}.broker",
        "belongs to a larger",
    ),
)
