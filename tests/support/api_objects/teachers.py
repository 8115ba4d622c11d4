"""`distill.teachers` and `distill.assistants`: who teaches beside the source."""

from __future__ import annotations

from typing import Any

from tests.support.api_objects.case import Case
from tests.support.api_objects.fields import CONVOLVED, PLAIN, SOFT

__all__ = ["INVALID", "VALID"]

_TEACHERS_FIELD = "spec.distill.teachers"
_SOURCE = "file://teacher"  # of base "class"
_FIRST = "spec.distill.teachers[0]"
_TEACHERS: list[Any] = [
    {"uri": "models:minilm"},
    {"uri": "models:b", "weight": "2.5", "maxLength": 128, "labels": ["yes", "no"]},
    {"uri": "models:c", "weight": "0", "factory": {"target": "nets:teacher", "arguments": {"width": 8}}},
]
_RELATIONS: dict[str, Any] = {"spec.distill.stages": [{"losses": [{"kind": "similarity"}, {"kind": "relational-distance"}]}]}
_HARD: dict[str, Any] = {"losses": [{"kind": "hard"}]}
_ASSISTANT: dict[str, Any] = {
    "student": {"hiddenLayers": 2, "hiddenSize": 64},
    "stages": [{"losses": [{"kind": "logits"}], "epochs": 2}],
}
_RELATED: dict[str, Any] = {
    "spec.distill.assistants": [{"student": {"hiddenLayers": 3}, "stages": [{"losses": [{"kind": "similarity"}]}]}]
}

VALID: tuple[Case, ...] = (
    Case("several teachers", "class", {"spec.distill.teachers": _TEACHERS, "spec.distill.weighting": "confidence"}),
    Case(
        "teachers whose weights are learned",
        "class",
        {
            "spec.distill.teachers": [{"uri": "models:a", "labels": ["yes", "no"]}, {"uri": "models:b"}],
            "spec.distill.weighting": "learned",
            "spec.distill.validation": {"uri": "data:v"},
        },
    ),
    Case("teachers of similarities", "text", {**_RELATIONS, "spec.distill.teachers": _TEACHERS}),
    Case(
        "one teacher's files read in several ways",
        "class",
        {
            "spec.distill.teachers": [
                {"uri": "models:a"},
                {"uri": "models:a", "maxLength": 32},
                {"uri": "models:a", "labels": ["yes", "no"]},
                {"uri": "models:a", "factory": {"target": "nets:teacher", "arguments": {"width": 8}}},
                {"uri": "models:a", "factory": {"target": "nets:teacher", "arguments": {"width": 16}}},
            ]
        },
    ),
    Case("the source among its teachers", "class", {"spec.distill.teachers": [{"uri": _SOURCE}, {"uri": "models:a"}]}),
    Case("no teachers", "class", {"spec.distill.teachers": [], "spec.distill.assistants": []}),
    Case("assistants", "class", {"spec.distill.assistants": [_ASSISTANT, {**_ASSISTANT, "student": {"uri": "models:between"}}]}),
    Case("an assistant taught by several, a student by it", "text", {"spec.distill.teachers": _TEACHERS, **_RELATED}),
)

INVALID: tuple[Case, ...] = (
    Case(
        "neurons of an assistant's convolutions to prune",
        "text",
        {
            SOFT: PLAIN,
            "spec.distill.assistants": [{"student": CONVOLVED, "stages": [{"losses": PLAIN, "prune": {"heads": "50%"}}]}],
        },
        "spec.distill.assistants[0].stages",
        "no heads",
    ),
    Case(
        "relations to an assistant of convolutions",
        "text",
        {
            SOFT: [{"kind": "value-relation"}],
            "spec.distill.assistants": [{"student": CONVOLVED, "stages": [{"losses": PLAIN}]}],
        },
        "spec.distill.assistants",
        "an assistant with convolution",
    ),
    Case("teachers' layers", "text", {"spec.distill.teachers": _TEACHERS}, "spec.distill.teachers", "several teachers teach by"),
    Case(
        "teachers' embeddings as keys",
        "text",
        {"spec.distill.stages": [{"losses": [{"kind": "similarity", "keys": 64}]}], "spec.distill.teachers": _TEACHERS},
        "spec.distill.teachers",
        "without keys",
    ),
    *(
        Case(f"a teacher twice: {name}", "class", {"spec.distill.teachers": teachers}, _TEACHERS_FIELD, "each teacher once")
        for name, teachers in (
            ("its uri", [{"uri": "models:a"}, {"uri": "models:b"}, {"uri": "models:a", "weight": "2"}]),
            ("one of them not asked", [{"uri": "models:a"}, {"uri": "models:a", "weight": "0"}]),
            ("the source", [{"uri": _SOURCE}, {"uri": _SOURCE}]),
            (
                "its options",
                [
                    {"uri": "models:a", "maxLength": 32, "labels": ["yes", "no"], "factory": {"target": "nets:teacher"}},
                    {"uri": "models:a", "maxLength": 32, "labels": ["yes", "no"], "factory": {"target": "nets:teacher"}},
                ],
            ),
        )
    ),
    Case(
        "teachers of no weight",
        "class",
        {"spec.distill.teachers": [{"uri": "models:a", "weight": "0.0"}, {"uri": "models:b", "weight": "0"}]},
        "spec.distill.teachers",
        "weight 0",
    ),
    Case(
        "a weight of NaN",
        "class",
        {"spec.distill.teachers": [{"uri": "models:a", "weight": "NaN"}]},
        f"{_FIRST}.weight",
    ),
    Case("a weight below 0", "class", {"spec.distill.teachers": [{"uri": "models:a", "weight": "-1"}]}, f"{_FIRST}.weight"),
    Case("a weighting of nobody", "class", {"spec.distill.weighting": "select"}, "spec.distill.weighting", "name them"),
    Case(
        "learned weights without validation",
        "class",
        {"spec.distill.teachers": [{"uri": "models:a"}], "spec.distill.weighting": "learned"},
        "spec.distill.weighting",
        "labels of validation",
    ),
    Case(
        "weights both learned and given",
        "class",
        {
            "spec.distill.teachers": _TEACHERS,
            "spec.distill.weighting": "learned",
            "spec.distill.validation": {"uri": "data:v"},
        },
        "spec.distill.weighting",
        "no weight given",
    ),
    Case(
        "how sure an embedding is",
        "text",
        {**_RELATIONS, "spec.distill.teachers": _TEACHERS, "spec.distill.weighting": "confidence"},
        "spec.distill.weighting",
        "fixed weights",
    ),
    Case(
        "an assistant whose next stage fills its zeros",
        "class",
        {"spec.distill.assistants": [{"student": {}, "stages": [{**_HARD, "prune": {"weights": "50%"}}, _HARD]}]},
        "spec.distill.assistants[0].stages",
        "belongs to the last stage",
    ),
    Case(
        "an assistant whose stages have one name",
        "class",
        {"spec.distill.assistants": [{"student": {}, "stages": [{**_HARD, "name": "a"}, {**_HARD, "name": "a"}]}]},
        "spec.distill.assistants[0].stages",
        "name of its own",
    ),
    Case(
        "an assistant with a layer beyond its own",
        "class",
        {
            "spec.distill.assistants": [
                {
                    "student": {"hiddenLayers": 2},
                    "stages": [{"losses": [{"kind": "hidden", "layers": [{"teacher": 1, "student": 3}]}]}],
                }
            ]
        },
        "spec.distill.assistants[0].stages",
        "beyond student.hiddenLayers",
    ),
    Case("an assistant without stages", "class", {"spec.distill.assistants": [{"student": {}}]}, "spec.distill.assistants[0]"),
    Case(
        "an assistant of another kind",
        "class",
        {"spec.distill.assistants": [{**_ASSISTANT, "student": {"architecture": "bilstm"}}]},
        "spec.distill.assistants[0].student.architecture",
    ),
    Case(
        "an assistant of another task",
        "class",
        {"spec.distill.assistants": [{**_ASSISTANT, "stages": [{"losses": [{"kind": "embedding"}]}]}]},
        "spec.distill",
        "belong to task",
    ),
    Case(
        "an assistant that stops without validation",
        "class",
        {"spec.distill.assistants": [{"student": {}, "stages": [{"losses": [{"kind": "hard"}], "earlyStopping": {}}]}]},
        "spec.distill.validation",
        "needs validation",
    ),
    Case(
        "a residual assistant of classes",
        "class",
        {"spec.distill.assistants": [{**_ASSISTANT, "student": {"architecture": "residual"}}]},
        "spec.distill.student.architecture",
        "sentence-embedding only",
    ),
)
