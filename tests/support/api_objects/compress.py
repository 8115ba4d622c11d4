"""`compress`: goals, precisions, INT8 and how it is learned."""

from __future__ import annotations

from tests.support.api_objects.case import GONE, Case, bad
from tests.support.api_objects.fields import PLAIN, SOFT, STUDENT

__all__ = ["INVALID", "VALID"]

_INT8 = "spec.compress.int8"

VALID: tuple[Case, ...] = (
    Case("a goal", "text", {"spec.compress": {"goal": "balanced"}}),
    Case("INT4", "text", {"spec.compress": {"precision": "int4"}}),
    Case("INT4 as wished", "text", {"spec.compress": {"precision": "int4", "int4": {"blockSize": 64, "method": "gptq"}}}),
    Case("mixed", "text", {"spec.compress": {"precision": "mixed", "mixed": {"maxLoss": "0.5%"}}}),
    Case("mixed for a goal", "text", {"spec.compress": {"goal": "small", "mixed": {}, "int4": {"activations": "fp32"}}}),
    Case(
        "mixed on calibration data of its own",
        "text",
        {"spec.distill": GONE, "spec.compress": {"precision": "mixed", "calibration": {"uri": "data:calibration"}}},
    ),
    *(Case(f"half the size in {each}", "text", {"spec.compress": {"precision": each}}) for each in ("fp16", "bf16")),
    *(
        Case(f"ranges {each}", "text", {"spec.compress": {"precision": "int8", "int8": {"ranges": each}}})
        for each in ("dynamic", "minmax", "percentile", "entropy")
    ),
    *(
        Case(f"learned in INT8, {base}", base, {"spec.compress": {"qat": {"epochs": 2, "learningRate": "0.00005"}, **more}})
        for base, more in (("text", {"precision": "int8"}), ("class", {"int8": {"ranges": "entropy"}}), ("image", {"goal": None}))
    ),
    Case("static ranges without balance", "class", {"spec.compress": {"int8": {"balance": "0"}}}),
    Case(
        "dynamic ranges without any rows",
        "text",
        {"spec.distill": GONE, "spec.compress": {"precision": "int8", "int8": {"ranges": "dynamic"}}},
    ),
)

INVALID: tuple[Case, ...] = (
    Case(
        "a goal of one precision",
        "text",
        {"spec.compress": {"goal": "fast", "precision": "int8"}},
        "spec.compress.goal",
        "belongs to",
    ),
    Case(
        "a goal without a gate",
        "text",
        {"spec.compress": {"goal": "fast"}, "spec.gate": GONE},
        "spec.compress.goal",
        "needs gate",
    ),
    *(
        Case(name, "text", {"spec.compress": given}, f"spec.compress.{field}", says)
        for name, given, field, says in (
            ("INT4's settings of INT8", {"precision": "int8", "int4": {}}, "int4", "belongs to"),
            ("mixed for the fastest", {"goal": "fast", "mixed": {}}, "mixed", "belongs to"),
            ("a block of 48", {"precision": "int4", "int4": {"blockSize": 48}}, "int4.blockSize", ""),
            ("no loss", {"precision": "mixed", "mixed": {"maxLoss": "0%"}}, "mixed.maxLoss", "more than 0%"),
        )
    ),
    Case(
        "mixed without rows",
        "text",
        {"spec.distill": GONE, "spec.compress": {"precision": "mixed"}},
        "spec.compress.precision",
        "needs compress.calibration",
    ),
    Case(
        "gptq without rows",
        "text",
        {"spec.distill": GONE, "spec.compress": {"precision": "int4", "int4": {"method": "gptq"}}},
        "spec.compress.int4.method",
        "needs compress.calibration",
    ),
    bad("another goal", "text", "spec.compress.goal", "cheap"),
    Case("other ranges", "text", {_INT8: {"ranges": "mse"}}, f"{_INT8}.ranges"),
    Case(
        "a percentile of minmax", "text", {_INT8: {"percentile": "99.9%"}}, f"{_INT8}.percentile", "belongs to ranges: percentile"
    ),
    Case(
        "a range that leaves out half",
        "text",
        {_INT8: {"ranges": "percentile", "percentile": "50%"}},
        f"{_INT8}.percentile",
        "between 90% and 100%",
    ),
    Case("balance of no ranges", "text", {_INT8: {"ranges": "dynamic", "balance": "0.5"}}, f"{_INT8}.balance", "static ranges"),
    Case("more than all", "text", {_INT8: {"balance": "1.5"}}, f"{_INT8}.balance", "between 0 and 1"),
    *(
        Case(name, "text", {"spec.compress": {"qat": {}, **more}, **edits}, f"spec.compress.{field}", says)
        for name, more, edits, field, says in (
            ("INT8 learned for FP16", {"precision": "fp16"}, {}, "qat", "precision int8 or auto"),
            ("learned with ranges of every run", {"int8": {"ranges": "dynamic"}}, {}, "int8.ranges", "ranges that stay"),
            ("learned at no rate", {"qat": {"learningRate": "0.0"}}, {}, "qat.learningRate", "more than 0"),
            ("learned without a lesson", {}, {"spec.distill": GONE}, "qat", "needs distill"),
            ("LSTMs that learn INT8", {}, {STUDENT: {"architecture": "bilstm"}, SOFT: PLAIN}, "qat", "LSTMs"),
            (
                "zeros that are filled",
                {},
                {"spec.distill.stages": [{"losses": PLAIN, "prune": {"weights": "50%"}}]},
                "qat",
                "fill the zeros",
            ),
        )
    ),
    Case(
        "int8 of another precision", "text", {"spec.compress": {"precision": "fp32", "int8": {}}}, _INT8, "precision int8 or auto"
    ),
    Case(
        "ranges read off no rows",
        "text",
        {"spec.distill": GONE, "spec.compress": {"precision": "int8", "int8": {}}},
        f"{_INT8}.ranges",
        "need compress.calibration",
    ),
)
