"""`prune` of a stage: what is taken out of the student."""

from __future__ import annotations

from tests.support.api_objects.case import Case, bad
from tests.support.api_objects.fields import CONVOLVED, PLAIN, SOFT, STAGE, STUDENT

__all__ = ["INVALID", "VALID"]

VALID: tuple[Case, ...] = (
    *(
        Case(f"a stage that prunes: {', '.join(value)}", "text", {f"{STAGE}.prune": value})
        for value in (
            {"neurons": "99.5%", "heads": "5%", "channels": "50%", "by": "magnitude"},
            {"heads": "50%", "recovery": "0%"},
        )
    ),
    Case(
        "zeros in the last stage",
        "text",
        {"spec.distill.stages": [{"losses": [{"kind": "embedding"}], "prune": {"weights": "90%"}}]},
    ),
    Case("channels of a cnn", "image", {STUDENT: {"architecture": "cnn"}, f"{STAGE}.prune": {"channels": "50%"}}),
    Case("neurons of an mlp", "image", {STUDENT: {"architecture": "mlp"}, f"{STAGE}.prune": {"neurons": "50%"}}),
)

INVALID: tuple[Case, ...] = (
    Case(
        "neurons of convolutions to prune",
        "text",
        {STUDENT: CONVOLVED, "spec.distill.stages": [{"losses": PLAIN, "prune": {"neurons": "50%"}}]},
        "spec.distill.stages",
        "no heads",
    ),
    Case(
        "channels of convolutions to prune",
        "text",
        {STUDENT: CONVOLVED, "spec.distill.stages": [{"losses": PLAIN, "prune": {"channels": "50%"}}]},
        "spec.distill.stages",
        "channels to prune",
    ),
    Case(
        "a text's cnn whose channels go",
        "text",
        {STUDENT: {"architecture": "cnn"}, SOFT: PLAIN, f"{STAGE}.prune": {"channels": "50%"}},
        "spec.distill.stages",
        "no channels to prune",
    ),
    bad("pruning of nothing", "text", f"{STAGE}.prune", {"by": "taylor"}, "names what is taken out"),
    *(
        Case(
            f"pruning of {share} of the {kind}",
            "text",
            {f"{STAGE}.prune": {kind: share}},
            f"{STAGE}.prune.{kind}",
            "more than 0%",
        )
        for kind, share in (("heads", "0%"), ("neurons", "100%"), ("channels", "0.00%"), ("weights", "100.0%"))
    ),
    Case(
        "zeros and parts together",
        "text",
        {f"{STAGE}.prune": {"weights": "50%", "heads": "50%"}},
        f"{STAGE}.prune.weights",
        "one or the other",
    ),
    Case(
        "a recovery of everything",
        "text",
        {f"{STAGE}.prune": {"heads": "50%", "recovery": "100%"}},
        f"{STAGE}.prune.recovery",
        "must leave steps",
    ),
    Case(
        "zeros that the next stage fills",
        "text",
        {
            "spec.distill.stages": [
                {"losses": [{"kind": "embedding"}], "prune": {"weights": "50%"}},
                {"losses": [{"kind": "embedding"}]},
            ]
        },
        "spec.distill.stages",
        "belongs to the last stage",
    ),
    *(
        Case(
            f"{part} of a student that is a {kind}",
            "text",
            {STUDENT: {"architecture": kind}, SOFT: PLAIN, f"{STAGE}.prune": {part: "50%"}},
            "spec.distill.stages",
            "to prune",
        )
        for kind, part in (
            ("cnn", "heads"),
            ("cnn", "neurons"),
            ("bilstm", "neurons"),
            ("bilstm", "channels"),
            ("mlp", "channels"),
        )
    ),
)
