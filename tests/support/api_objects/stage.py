"""`distill.stages`: how long, how fast and with what a student is trained."""

from __future__ import annotations

from tests.support.api_objects.case import GONE, Case, bad
from tests.support.api_objects.fields import CNN, PLAIN, SOFT, STAGE, STUDENT

__all__ = ["INVALID", "VALID"]

VALID: tuple[Case, ...] = (
    *(
        Case(f"a stage with {name}", "text", {f"{STAGE}.{name}": value})
        for name, value in (("progressive", "alone"), ("freeze", {"layers": 2}), ("earlyStopping", {"patience": 2}))
    ),
    Case("embeddings frozen, layers too", "text", {f"{STAGE}.freeze": {"embeddings": True, "layers": 1}}),
    Case("training in bfloat16", "class", {"spec.distill.stages[0].mixedPrecision": "auto"}),
)

INVALID: tuple[Case, ...] = (
    bad("another mixed precision", "text", "spec.distill.stages[0].mixedPrecision", "fp16"),
    Case("no losses", "text", {"spec.distill.stages[0].losses": GONE}, "spec.distill.stages[0].losses"),
    bad("an empty list of stages", "text", "spec.distill.stages", []),
    Case(
        "a stage whose losses count for nothing",
        "text",
        {"spec.distill.stages[0].losses": [{"kind": "embedding", "weight": "0"}, {"kind": "similarity", "weight": "0.0"}]},
        "spec.distill.stages[0].losses",
        "nothing would be learned",
    ),
    Case(
        "a weight that begins at 0 and goes to 0",
        "text",
        {"spec.distill.stages[0].losses": [{"kind": "embedding", "weight": "0", "weightSchedule": {"to": "0.0"}}]},
        "spec.distill.stages[0].losses",
        "nothing would be learned",
    ),
    Case(
        "more frozen layers than there are",
        "text",
        {STUDENT: {"hiddenLayers": 1}, f"{STAGE}.freeze": {"layers": 5}},
        "spec.distill.stages",
        "more layers than student.hiddenLayers",
    ),
    Case(
        "frozen layers of a cnn",
        "text",
        {STUDENT: CNN, SOFT: PLAIN, f"{STAGE}.freeze": {"layers": 1}},
        "spec.distill.stages",
        "are a transformer's",
    ),
    bad("a learning rate of 0", "text", "spec.distill.stages[0].learningRate", "0", "more than 0"),
    Case("stages of one name", "text", {"spec.distill.stages[1].name": "soft"}, "spec.distill.stages", "name of its own"),
)
