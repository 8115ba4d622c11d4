"""`distill`: the rows that are learned from, and which logits are kept."""

from __future__ import annotations

from tests.support.api_objects.case import Case, bad

__all__ = ["INVALID", "VALID"]

VALID: tuple[Case, ...] = (
    Case("rows drawn by weight", "text", {"spec.distill.data.columns": {"weight": "w"}}),
    Case("repetitions and nothing else", "text", {"spec.distill.deduplicate": {}}),
    Case("equal rows alone", "text", {"spec.distill.deduplicate": {"threshold": "1", "heldOut": False}}),
    Case("a report without anything to report", "text", {"spec.distill.report": True}),
    Case("the largest logits", "class", {"spec.distill.topLogits": 5}),
)

INVALID: tuple[Case, ...] = (
    Case(
        "logits of an embedding kept",
        "text",
        {"spec.distill.topLogits": 5},
        "spec.distill.topLogits",
        "belongs to classification",
    ),
    Case("no logits kept", "class", {"spec.distill.topLogits": 0}, "spec.distill.topLogits"),
    bad("a likeness above 1", "class", "spec.distill.deduplicate.threshold", "1.5", "at most 1"),
    bad("a likeness of 0", "class", "spec.distill.deduplicate.threshold", "0.0", "more than 0"),
    bad("a balance of nothing", "class", "spec.distill.balance.to", "0%", "more than 0%"),
    bad("rows that are there once at most", "class", "spec.distill.balance.most", 1),
    bad("copies without a change", "class", "spec.distill.augment.operations", []),
    bad("no copies", "class", "spec.distill.augment.copies", 0),
    bad("a change that never happens", "class", "spec.distill.augment.operations[0].chance", "0%", "more than 0%"),
    bad("a weight of rows that judge", "text", "spec.gate.data.columns.weight", "w"),
    *(
        Case(
            f"rows of {place} drawn by weight and in groups",
            "text",
            {
                "spec.distill.data.columns": {"group": "g"},
                "spec.distill.unlabelled": {"uri": "data:more"},
                f"spec.distill.{place}.columns": {"group": "g", "weight": "w"},
                "spec.distill.stages": [{"losses": [{"kind": "contrastive"}]}],
            },
            "spec.distill.data.columns",
            "contrastive draws groups",
        )
        for place in ("data", "unlabelled")
    ),
    bad("an unknown change", "class", "spec.distill.augment.operations[0].kind", "translate"),
    bad("labels of a third kind", "class", "spec.distill.augment.labels", "both"),
    bad("an amount of mirroring", "image", "spec.distill.augment.operations[0].amount", "5%", "flip has no amount"),
)
