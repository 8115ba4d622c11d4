"""Tables and time series: their form, and what their students may be."""

from __future__ import annotations

from tests.support.api_objects.case import GONE, Case, bad
from tests.support.api_objects.fields import STUDENT

__all__ = ["INVALID", "VALID"]

VALID: tuple[Case, ...] = (
    Case("a table's default student", "table", {STUDENT: {"hiddenSize": 16}}),
    Case("one channel", "series", {"spec.source.features": {"length": 16}, STUDENT: {"architecture": "mlp"}}),
)

INVALID: tuple[Case, ...] = (
    Case("columns of text", "class", {"spec.source.features": {"columns": ["a"]}}, "spec.source.features", "only"),
    Case("no columns of a table", "table", {"spec.source.features": GONE}, "spec.source.features", "needs features (columns)"),
    Case(
        "a window of a table",
        "table",
        {"spec.source.features": {"length": 3}},
        "spec.source.features",
        "needs features (columns)",
    ),
    Case("columns of a series", "series", {"spec.source.features": {"columns": ["a"]}}, "spec.source.features", "needs features"),
    bad("columns and a length", "series", "spec.source.features", {"columns": ["a"], "length": 3}, "give columns"),
    bad("channels of a table", "table", "spec.source.features", {"columns": ["a"], "channels": 3}, "give columns"),
    bad("features of nothing", "table", "spec.source.features", {}, "give columns"),
    bad("a column twice", "table", "spec.source.features.columns", ["a", "b", "a"]),
    bad("no columns", "table", "spec.source.features.columns", []),
    Case(
        "the label is a column",
        "table",
        {"spec.source.features.columns": ["a", "label"]},
        "spec.source.features.columns",
        "stand beside a row",
    ),
    Case(
        "an endless window",
        "series",
        {"spec.source.features": {"length": 65536, "channels": 17}},
        "spec.source.features.length",
        "1048576 numbers",
    ),
    Case(
        "an image and columns",
        "table",
        {"spec.source.image": {"height": 8, "width": 8}},
        "spec.source.image",
        "image-classification only",
    ),
    Case("a cnn of a table", "table", {STUDENT: {"architecture": "cnn"}}, f"{STUDENT}.architecture", "have none"),
    Case("an lstm of a series", "series", {STUDENT: {"architecture": "bilstm"}}, f"{STUDENT}.architecture", "take texts"),
    Case("an encoder of a table", "table", {STUDENT: {"architecture": "encoder"}}, STUDENT, "begins at random"),
    Case("heads of a table", "table", {STUDENT: {"hiddenSize": 32, "attentionHeads": 2}}, STUDENT, "begins at random"),
    Case("a start of a series", "series", {STUDENT: {"hiddenSize": 32, "init": "layers"}}, STUDENT),
    Case("tokens of a series", "series", {STUDENT: {"architecture": "mlp", "bigrams": 512}}, STUDENT, "students of texts"),
    Case(
        "a search for a table",
        "table",
        {
            STUDENT: {"architecture": "mlp"},
            "spec.distill.validation": {"uri": "data:validation"},
            "spec.distill.search": {"hiddenSize": [16, 32]},
        },
        "spec.distill.search",
        "take texts",
    ),
    Case(
        "noise in a table",
        "table",
        {"spec.distill.augment": {"operations": [{"kind": "noise"}]}},
        "spec.distill.augment",
        "leaves the label",
    ),
    Case(
        "an image of a table's request",
        "table",
        {"spec.pipeline.steps[0].inputs": {"x": "request.IMAGE"}},
        "spec.pipeline.steps",
        "request.FEATURES",
    ),
)
