"""`build`: what a build's Jobs may use, and how many train."""

from __future__ import annotations

from tests.support.api_objects.case import Case, bad
from tests.support.api_objects.fields import PLAIN, SOFT, STUDENT

__all__ = ["INVALID", "VALID"]

VALID: tuple[Case, ...] = (
    Case("a text's cnn on two workers", "text", {STUDENT: {"architecture": "cnn"}, SOFT: PLAIN, "spec.build.workers": 2}),
)

INVALID: tuple[Case, ...] = (
    Case(
        "an image's cnn on two workers",
        "image",
        {STUDENT: {"architecture": "cnn"}, "spec.build.workers": 2},
        "spec.build.workers",
        "normalises over its batch",
    ),
    bad("no worker", "text", "spec.build.workers", 0),
    bad("workers in words", "text", "spec.build.workers", "two"),
    Case("more workers than rows", "text", {"spec.distill.stages[0].batchSize": 3}, "spec.build.workers", "at least one row"),
    bad("a queue that no label can name", "text", "spec.build.queue", "a.b"),
    bad("a queue of 64 characters", "text", "spec.build.queue", "a" * 64),
    bad("a spread of builds", "text", "spec.build.placement.topologySpreadConstraints", []),
    bad(
        "a build's request above its limit",
        "text",
        "spec.build.resources.requests.memory",
        "33Gi",
        "must not exceed",
    ),
    bad("a build's node of no label", "text", "spec.build.placement.nodeSelector", {"a b": "c"}, "not one of Kubernetes"),
)
