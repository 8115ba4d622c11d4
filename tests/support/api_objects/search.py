"""`distill.search`: how a student's shape is looked for."""

from __future__ import annotations

from typing import Any

from tests.support.api_objects.case import GONE, Case
from tests.support.api_objects.fields import CONVOLVED, PLAIN, SOFT, STUDENT

__all__ = ["INVALID", "VALID"]

_SEARCH: dict[str, Any] = {
    "hiddenLayers": [1, 2], "vocabulary": [4000, 8000], "maxSize": "4Mi", "maxLatencyP50": "2ms", "trials": 4, "patience": 2,
    "epochs": 2, "tolerance": "2%",
}  # fmt: skip
_SEARCHED = "spec.distill.search"
_STAGES = "spec.distill.stages"
_PAIRED: dict[str, Any] = {"kind": "hidden", "layers": [{"teacher": 6, "student": 2}]}

VALID: tuple[Case, ...] = (
    Case("a search", "text", {"spec.distill.student": {"hiddenSize": 64}, "spec.distill.search": _SEARCH}),
    Case("widths and heads to search", "text", {STUDENT: {}, _SEARCHED: {"hiddenSize": [64, 96], "attentionHeads": [2, 8]}}),
    Case("widths to search for two heads", "text", {STUDENT: {"attentionHeads": 2}, _SEARCHED: {"hiddenSize": [64, 66]}}),
    Case("as deep as dilated goes", "text", {STUDENT: CONVOLVED, SOFT: PLAIN, _SEARCHED: {"hiddenLayers": [1, 10]}}),
    Case("depths of the teacher's layers", "text", {STUDENT: {"init": "layers"}, _SEARCHED: {"hiddenLayers": [1, 2]}}),
    Case(
        "layers that every depth has",
        "text",
        {
            STUDENT: {},
            _STAGES: [{"losses": [_PAIRED, {"kind": "similarity"}], "freeze": {"layers": 2}}],
            _SEARCHED: {"hiddenLayers": [2, 3]},
        },
    ),
    Case(
        "widths of whole heads that follow from them",
        "text",
        {STUDENT: {"architecture": "residual"}, SOFT: PLAIN, _SEARCHED: {"hiddenSize": [8, 40, 66, 96]}},
    ),
    Case(
        "a width whose heads are said",
        "text",
        {STUDENT: {"architecture": "residual", "attentionHeads": 4}, SOFT: PLAIN, _SEARCHED: {"hiddenSize": [100]}},
    ),
    Case(
        "deeper where nothing is dilated",
        "text",
        {STUDENT: {"architecture": "cnn"}, SOFT: PLAIN, _SEARCHED: {"hiddenLayers": [1, 11]}},
    ),
)

INVALID: tuple[Case, ...] = (
    Case(
        "widths to search for copied layers",
        "text",
        {STUDENT: {"init": "layers"}, SOFT: PLAIN, _SEARCHED: {"hiddenSize": [64, 384]}},
        f"{_SEARCHED}.hiddenSize",
        "init: layers copies the teacher's layers",
    ),
    Case(
        "half a head of a residual student to search",
        "text",
        {STUDENT: {"architecture": "residual"}, SOFT: PLAIN, _SEARCHED: {"hiddenSize": [64, 100]}},
        f"{_SEARCHED}.hiddenSize",
        "a head for each 32",
    ),
    Case(
        "a layer that not every depth has",
        "text",
        {
            STUDENT: {},
            _STAGES: [{"losses": [{"kind": "similarity"}]}, {"losses": [_PAIRED]}],
            _SEARCHED: {"hiddenLayers": [1, 3]},
        },
        _STAGES,
        "beyond the fewest",
    ),
    Case(
        "frozen layers that not every depth has",
        "text",
        {STUDENT: {}, _STAGES: [{"losses": PLAIN, "freeze": {"layers": 2}}], _SEARCHED: {"hiddenLayers": [1, 3]}},
        _STAGES,
        "beyond the fewest",
    ),
    Case(
        "heads to search for an mlp",
        "text",
        {STUDENT: {"architecture": "mlp"}, SOFT: PLAIN, "spec.distill.search": {"attentionHeads": [1, 2]}},
        "spec.distill.search.attentionHeads",
        "to search among",
    ),
    Case(
        "heads to search for convolutions",
        "text",
        {STUDENT: CONVOLVED, SOFT: PLAIN, "spec.distill.search": {"attentionHeads": [1, 2]}},
        "spec.distill.search.attentionHeads",
        "nor of convolutions",
    ),
    Case(
        "dilated without end to search",
        "text",
        {STUDENT: CONVOLVED, SOFT: PLAIN, _SEARCHED: {"hiddenLayers": [2, 11]}},
        f"{_SEARCHED}.hiddenLayers",
        "beyond any text",
    ),
    Case(
        "no size at all to search within",
        "text",
        {_SEARCHED: {"hiddenLayers": [1], "maxSize": "0"}},
        f"{_SEARCHED}.maxSize",
        "more than 0",
    ),
    Case(
        "no time at all to search within",
        "text",
        {_SEARCHED: {"hiddenLayers": [1], "maxLatencyP50": "0ms"}},
        f"{_SEARCHED}.maxLatencyP50",
        "more than 0",
    ),
    *(
        Case(f"half a head to search: {name}", "text", {STUDENT: student, _SEARCHED: search}, _SEARCHED, "must be a multiple")
        for name, student, search in (
            ("widths and heads", {}, {"hiddenSize": [64, 96], "attentionHeads": [2, 5]}),
            ("widths", {"attentionHeads": 6}, {"hiddenSize": [96, 128]}),
            ("heads", {"hiddenSize": 64}, {"attentionHeads": [2, 3]}),
        )
    ),
    Case(
        "an lstm of an odd width to search for",
        "text",
        {STUDENT: {"architecture": "bilstm"}, SOFT: PLAIN, "spec.distill.search": {"hiddenSize": [16, 33]}},
        "spec.distill.search.hiddenSize",
        "even",
    ),
    Case(
        "a search of images",
        "image",
        {
            STUDENT: {"architecture": "mlp"},
            "spec.distill.search": {"hiddenSize": [16, 32]},
            "spec.distill.validation": {"uri": "data:v"},
        },
        "spec.distill.search",
        "take texts",
    ),
    Case(
        "a search among nothing",
        "text",
        {"spec.distill.student": {}, "spec.distill.search": {"trials": 3}},
        "spec.distill.search",
        "something to search",
    ),
    Case(
        "a search without validation",
        "text",
        {"spec.distill.student": {}, "spec.distill.search": _SEARCH, "spec.distill.validation": GONE},
        "spec.distill.search",
        "needs validation",
    ),
    Case(
        "searched and said",
        "text",
        {"spec.distill.student": {"hiddenLayers": 2}, "spec.distill.search": _SEARCH},
        "spec.distill.search",
        "left out of student",
    ),
    Case(
        "a search for a factory's shape",
        "text",
        {"spec.distill.student": {"factory": {"target": "nets:student"}}, "spec.distill.search": _SEARCH},
        "spec.distill.search",
        "left out of student",
    ),
)
