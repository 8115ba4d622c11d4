"""`gate` and `index`: what a candidate must show before it serves."""

from __future__ import annotations

from tests.support.api_objects.case import GONE, Case, bad
from tests.support.api_objects.fields import METRIC

__all__ = ["INVALID", "VALID"]

VALID: tuple[Case, ...] = (
    Case("no metrics", "text", {"spec.gate.metrics": []}),
    Case("per class loss", "class", {"spec.gate.metrics": [{"name": "per-class-loss", "max": "2%"}]}),
    *(
        Case(f"a share that can be reached: {metric}", "class", {"spec.gate.metrics": [metric]})
        for metric in (
            {"name": "accuracy", "min": "100%"},
            {"name": "accuracy", "min": "100.000%"},
            {"name": "accuracy", "min": "1.0"},
            {"name": "accuracy", "min": "0%"},
            {"name": "accuracy", "min": "7%"},
            {"name": "accuracy", "min": "110%", "of": "teacher"},
            {"name": "log-loss", "max": "1.5"},
        )
    ),
)

INVALID: tuple[Case, ...] = (
    bad("unknown metric", "text", f"{METRIC}.name", "f1"),
    bad("a metric of no rank", "text", f"{METRIC}.name", "mrr@0"),
    Case("a search of no index", "text", {"spec.index": GONE}, "spec.index", "needs index"),
    Case("limit missing", "text", {f"{METRIC}.min": GONE}, METRIC, "give min or max, one of them"),
    Case("both limits", "text", {f"{METRIC}.max": "90%"}, METRIC, "give min or max, one of them"),
    *(
        Case(
            f"a share that nothing reaches: {share}",
            "class",
            {"spec.gate.metrics": [{"name": "accuracy", "min": share}]},
            METRIC,
            "no model reaches more",
        )
        for share in ("700%", "100.001%", "1.1", "7", "10")
    ),
    Case("a loss with a lower limit", "class", {"spec.gate.metrics": [{"name": "log-loss", "min": "1"}]}, METRIC, "take max"),
    Case("an upper limit on accuracy", "class", {"spec.gate.metrics": [{"name": "accuracy", "max": "1"}]}, METRIC, "takes min"),
    Case(
        "agreement of the teacher",
        "class",
        {"spec.gate.metrics": [{"name": "agreement", "min": "1", "of": "teacher"}]},
        f"{METRIC}.of",
        "against the teacher already",
    ),
    *(
        bad(f"a gate of nothing: {field}", "text", f"spec.gate.{field}", none, "more than 0")
        for field, none in (("maxSize", "0.0Mi"), ("maxLatencyP50", "0ms"), ("maxLatencyP99", "0.0s"))
    ),
    Case("an index of classes", "class", {"spec.index": {"data": {"uri": "data:x"}}}, "spec.index", "belongs to task"),
    Case("mrr of classes", "class", {f"{METRIC}.name": "mrr@10"}, "spec.gate.metrics", "belong to task"),
    Case("accuracy of embeddings", "text", {f"{METRIC}.name": "accuracy"}, "spec.gate.metrics", "classification tasks"),
)
