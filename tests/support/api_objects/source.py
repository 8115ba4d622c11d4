"""`source` and `credentials`: the model to start from, its fine-tuning, and who may fetch it."""

from __future__ import annotations

from typing import Any

from tests.support.api_objects.case import GONE, Case, bad

__all__ = ["INVALID", "VALID"]

_CREDENTIAL = "spec.credentials[0]"
_TUNED = "spec.source.fineTune"
_TUNE: dict[str, Any] = {
    "data": {"uri": "data:tuning", "columns": {"label": "topic"}},
    "validation": {"uri": "data:tuning-validation"},
    "epochs": 4,
    "batchSize": 16,
    "learningRate": "0.0001",
    "headLearningRate": "0.002",
    "warmup": "6%",
    "weightDecay": "0.1",
    "labelSmoothing": "0.05",
    "balanced": True,
    "freeze": {"embeddings": True},
    "earlyStopping": {"patience": 2, "minGain": "0.001"},
    "seed": 3,
}

VALID: tuple[Case, ...] = (
    Case("an argument that is null is left out", "image", {"spec.source.factory.arguments.width": None}),
    Case(
        "rows drawn by weight to fine-tune",
        "class",
        {"spec.source.fineTune": {"data": {"uri": "data:t", "columns": {"weight": "w"}}}},
    ),
    Case("a source that is fine-tuned", "class", {"spec.source.fineTune": _TUNE}),
    Case("a fine-tuning of nothing but data", "class", {"spec.source.fineTune": {"data": {"uri": "data:t"}}}),
)

INVALID: tuple[Case, ...] = (
    bad("credential without a prefix", "class", "spec.credentials[0]", {"secret": "s"}),
    bad("credential without a secret", "class", "spec.credentials[0]", {"for": "s3://b"}),
    bad("credential of a user in the host", "class", f"{_CREDENTIAL}.for", "https://me@files.example/"),
    bad("credential for every host", "class", f"{_CREDENTIAL}.for", "https://"),
    bad("credential for what is not encrypted", "class", f"{_CREDENTIAL}.for", "http://files.example/"),
    bad("credential with a query", "class", f"{_CREDENTIAL}.for", "https://files.example/?a=b"),
    bad("credential of no Secret's name", "class", f"{_CREDENTIAL}.secret", "A_b"),
    bad("too many credentials", "class", "spec.credentials", [{"secret": "s", "for": "s3://bucket"}] * 17),
    Case("no source", "text", {"spec.source": GONE}, "spec.source"),
    Case("a source that is null", "text", {"spec.source": None}, "spec.source"),
    Case("no task", "text", {"spec.source.task": GONE}, "spec.source.task"),
    bad("unknown task", "text", "spec.source.task", "embedding"),
    bad("not a URI", "text", "spec.source.uri", "minilm"),
    bad("a URI that is a number", "text", "spec.source.uri", 7),
    bad("a URI that is too long", "text", "spec.source.uri", "file://" + "x" * 1020),
    bad("an argument that is a boolean", "image", "spec.source.factory.arguments.width", True),
    bad("an argument with a fraction", "image", "spec.source.factory.arguments.width", 0.5),
    bad("an argument that is a list", "image", "spec.source.factory.arguments.width", [1]),
    bad("a factory without its function", "image", "spec.source.factory.target", "nets"),
    bad("a factory with letters beyond ASCII", "image", "spec.source.factory.target", "netz:größe"),
    bad("a label that stands twice", "class", "spec.source.labels", ["no", "yes", "no"]),
    Case("embeddings tuned", "text", {"spec.source.fineTune": _TUNE}, "spec.source.fineTune", "text-classification"),
    Case(
        "a factory's network tuned",
        "class",
        {"spec.source.fineTune": _TUNE, "spec.source.factory": {"target": "nets:teacher"}},
        "spec.source.fineTune",
        "Hugging Face knows",
    ),
    Case("a tuning at rate 0", "class", {"spec.source.fineTune": {**_TUNE, "headLearningRate": "0"}}, "spec.source.fineTune"),
    Case(
        "labels all smoothed",
        "class",
        {"spec.source.fineTune": {**_TUNE, "labelSmoothing": "1"}},
        f"{_TUNED}.labelSmoothing",
    ),
    Case(
        "a tuning that stops without validation",
        "class",
        {"spec.source.fineTune": {"data": {"uri": "data:t"}, "earlyStopping": {"patience": 2}}},
        "spec.source.fineTune.earlyStopping",
        "needs validation",
    ),
    Case("an image of text", "class", {"spec.source.image": {"height": 8, "width": 8}}, "spec.source.image", "only"),
    Case("no image of images", "image", {"spec.source.image": GONE}, "spec.source.image", "needs image"),
    Case("one mean of three channels", "image", {"spec.source.image.channels": 3}, "spec.source.image", "one number per channel"),
    bad("a deviation of 0", "image", "spec.source.image.std", ["0.0"], "more than 0"),
)
