"""`edge.preprocess`: steps before a model, and who has the model."""

from __future__ import annotations

from tests.support.api_objects.case import GONE, Case, bad
from tests.support.api_objects.fields import EDGE
from tests.support.api_objects.resources import COMPLETE

__all__ = ["INVALID", "VALID"]

_STEPS = f"{EDGE}.preprocess"
_STEP = f"{_STEPS}.steps[0]"
_NORMALISE = f"{_STEPS}.steps[4]"

VALID: tuple[Case, ...] = (
    Case("a broker behind steps", "steps", {f"{EDGE}.broker": {"credentials": "gateway", "certificate": "gateway-certificate"}}),
    Case("a token for the model behind steps", "steps", {f"{_STEPS}.address": GONE, f"{EDGE}.backendToken": "mine"}),
)

INVALID: tuple[Case, ...] = (
    Case(
        "a token behind steps in the clear", "steps", {f"{EDGE}.backendToken": "mine"}, f"{EDGE}.backendToken", "over TLS alone"
    ),
    Case(
        "a broker and none behind steps",
        "steps",
        {f"{EDGE}.broker": {"credentials": "gateway"}, f"{_STEPS}.address": GONE},
        f"{EDGE}.broker",
        "broker belongs to",
    ),
    Case(
        "steps and a cascade",
        "class",
        {_STEPS: {"steps": [{"kind": "tokenise"}], "model": "large"}},
        _STEPS,
        "exclude each other",
    ),
    Case(
        "steps before a pipeline",
        "steps",
        {"spec.pipeline": COMPLETE["apart"]["spec"]["pipeline"]},
        "spec.pipeline",
        "joins no pipeline",
    ),
    bad("no steps", "steps", f"{_STEPS}.steps", []),
    Case("steps for nobody", "steps", {f"{_STEPS}.model": GONE}, f"{_STEPS}.model"),
    bad("an unknown encoding", "steps", f"{_STEPS}.encoding", "gzip"),
    bad("an unknown step", "steps", f"{_STEP}.kind", "magic"),
    bad("a field of another step", "steps", f"{_STEP}.rate", "50", "belongs to statistics only"),
    Case("a full row of no length", "steps", {f"{_STEP}.maxLength": GONE}, f"{_STEP}.maxLength", "needs maxLength"),
    Case("a window without its hop", "steps", {f"{_STEPS}.steps[2].hop": GONE}, f"{_STEPS}.steps[2]", "needs length, hop"),
    Case("bands of no rate", "steps", {f"{_STEPS}.steps[3].rate": GONE}, f"{_STEPS}.steps[3].rate", "need the rate"),
    bad("more deviations than means", "steps", f"{_NORMALISE}.std", ["1", "2"], "as many numbers"),
    bad("a deviation of nothing", "steps", f"{_NORMALISE}.std", ["0.00"], "more than 0"),
    bad("a function of no module", "steps", f"{_STEPS}.steps[5].function", "total"),
)
