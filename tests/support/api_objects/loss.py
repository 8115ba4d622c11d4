"""`losses` of a stage: which of them a task and a student can have, with which fields."""

from __future__ import annotations

from tests.support.api_objects.case import Case
from tests.support.api_objects.fields import CNN, CONVOLVED, LOSS, SOFT, STAGE, STUDENT

__all__ = ["INVALID", "VALID"]

VALID: tuple[Case, ...] = (
    *(Case(f"loss {kind}", "class", {LOSS: {"kind": kind, "temperature": "2"}}) for kind in ("reverse-kl", "jsd", "tvd")),
    *(Case(f"loss {kind}", "text", {LOSS: {"kind": kind}}) for kind in ("relational-distance", "relational-angle")),
    Case("keys of contrastive-teacher", "text", {LOSS: {"kind": "contrastive-teacher", "temperature": "0.1", "keys": 64}}),
    Case(
        "weight and temperature on a course",
        "class",
        {LOSS: {"kind": "logits", "weightSchedule": {"to": "0"}, "temperatureSchedule": {"to": "1", "shape": "cosine"}}},
    ),
    Case("a weight that begins at 0", "class", {LOSS: {"kind": "logits", "weight": "0", "weightSchedule": {"to": "1"}}}),
    *(
        Case(f"loss {kind}", base, {LOSS: {"kind": kind, "layers": [{"teacher": 6, "student": 2}, {"teacher": 3}]}})
        for kind, base in (
            ("hidden", "text"),
            ("hidden-tokens", "text"),
            ("attention-transfer", "image"),
            ("attention-relation", "class"),
            ("value-relation", "text"),
        )
    ),
    *(Case(f"loss pooled, {base}", base, {LOSS: {"kind": "pooled", "distance": "mse"}}) for base in ("class", "text")),
    *(
        Case(f"batches of {rows}, {number}", "text", {f"{STAGE}.batchSize": rows, SOFT: [loss], "spec.build.workers": 1})
        for number, (rows, loss) in enumerate(
            (
                (1, {"kind": "embedding"}),
                (1, {"kind": "contrastive-teacher", "keys": 64}),
                (2, {"kind": "contrastive-teacher"}),
                (2, {"kind": "similarity", "keys": 64}),
                (2, {"kind": "similarity", "distance": "mse"}),
                (3, {"kind": "similarity"}),
                (3, {"kind": "relational-distance"}),
                (3, {"kind": "relational-angle"}),
            )
        )
    ),
    Case("labels smoothed", "class", {LOSS: {"kind": "hard", "labelSmoothing": "0.1"}}),
    Case("labels balanced", "class", {LOSS: {"kind": "hard", "classWeights": {"balanced": True}}}),
    Case("labels weighted", "class", {LOSS: {"kind": "logits", "classWeights": {"byLabel": {"a": "2", "b c": "0.5"}}}}),
    Case(
        "labels weighted, not balanced",
        "class",
        {LOSS: {"kind": "hard", "classWeights": {"balanced": False, "byLabel": {"a": "2"}}}},
    ),
)

INVALID: tuple[Case, ...] = (
    *(
        Case(
            f"batches of only {rows}, {number}",
            "text",
            {f"{STAGE}.batchSize": rows, SOFT: [{"kind": "embedding"}, loss]},
            f"{STAGE}.batchSize",
            "so few rows teach nothing",
        )
        for number, (rows, loss) in enumerate(
            (
                (1, {"kind": "contrastive-teacher"}),
                (1, {"kind": "similarity", "keys": 64}),
                (1, {"kind": "similarity", "distance": "mse"}),
                (2, {"kind": "similarity"}),
                (2, {"kind": "relational-distance"}),
                (2, {"kind": "relational-angle"}),
            )
        )
    ),
    Case("a layer of a cnn", "text", {STUDENT: CNN}, "spec.distill.stages", "none of its kind"),
    Case(
        "a layer that the student has not",
        "text",
        {SOFT: [{"kind": "hidden", "layers": [{"teacher": 6, "student": 3}]}]},
        "spec.distill.stages",
        "beyond student.hiddenLayers",
    ),
    Case(
        "relations of convolutions",
        "text",
        {STUDENT: CONVOLVED, SOFT: [{"kind": "value-relation"}]},
        "spec.distill.stages",
        "look at attention",
    ),
    Case(
        "a temperature of embedding",
        "text",
        {f"{LOSS}.temperature": "2"},
        f"{LOSS}.temperature",
        "temperature belongs to losses logits",
    ),
    Case("keys of embedding", "text", {f"{LOSS}.keys": 64}, f"{LOSS}.keys", "belongs to losses similarity"),
    Case(
        "keys of squared differences",
        "text",
        {"spec.distill.stages[0].losses[1].distance": "mse"},
        "spec.distill.stages[0].losses[1].keys",
        "with distance cosine",
    ),
    Case("a temperature of 0", "class", {f"{LOSS}.temperature": "0.00"}, f"{LOSS}.temperature", "more than 0"),
    Case("alpha above 1", "class", {f"{LOSS}.alpha": "1.1"}, f"{LOSS}.alpha", "at most 1"),
    Case("all of a label smoothed", "class", {LOSS: {"kind": "hard", "labelSmoothing": "1"}}, f"{LOSS}.labelSmoothing"),
    Case("labels of jsd smoothed", "class", {LOSS: {"kind": "jsd", "labelSmoothing": "0.1"}}, f"{LOSS}.labelSmoothing"),
    Case(
        "labels of tvd weighted",
        "class",
        {LOSS: {"kind": "tvd", "classWeights": {"balanced": True}}},
        f"{LOSS}.classWeights",
        "belongs to losses logits and hard",
    ),
    *(
        Case(name, "class", {LOSS: {"kind": "hard", "classWeights": weights}}, f"{LOSS}.classWeights", "only one of them")
        for name, weights in {
            "labels both balanced and weighted": {"balanced": True, "byLabel": {"a": "2"}},
            "labels neither balanced nor weighted": {"balanced": False},
            "labels in no way weighted": {},
        }.items()
    ),
    Case("a layer of logits", "class", {f"{LOSS}.layer": 2}, f"{LOSS}.layer", "belongs to losses hidden"),
    Case("layers of logits", "class", {f"{LOSS}.layers": [{"teacher": 2}]}, f"{LOSS}.layers", "belongs to losses hidden"),
    Case(
        "a layer and pairs of layers",
        "text",
        {LOSS: {"kind": "hidden", "layer": 2, "layers": [{"teacher": 2}]}},
        f"{LOSS}.layers",
        "only one of them",
    ),
    Case("a layer of pooled", "text", {LOSS: {"kind": "pooled", "layer": 2}}, f"{LOSS}.layer", "belongs to losses hidden"),
    Case("no pair of layers", "text", {LOSS: {"kind": "hidden", "layers": []}}, f"{LOSS}.layers"),
    Case("a pair without a teacher", "text", {LOSS: {"kind": "hidden", "layers": [{"student": 1}]}}, f"{LOSS}.layers[0]"),
    Case("jsd of an embedding", "text", {LOSS: {"kind": "jsd"}}, "spec.distill.stages", "belong to task"),
    Case("angles of classes", "class", {LOSS: {"kind": "relational-angle"}}, "spec.distill.stages", "belong to task"),
    Case("a teacher's rows of classes", "class", {LOSS: {"kind": "contrastive-teacher"}}, "spec.distill.stages"),
    Case("relations of classes", "class", {LOSS: {"kind": "relational-distance"}}, "spec.distill.stages", "belong to task"),
    Case("logits of an embedding", "text", {f"{LOSS}.kind": "logits"}, "spec.distill.stages", "belong to task"),
    Case("embeddings of a class", "class", {"spec.distill.stages[0].losses[1].kind": "embedding"}, "spec.distill.stages"),
)
