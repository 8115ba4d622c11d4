"""A pipeline from one YAML file to answers: model, regression and rule in one Triton, held against numpy."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tests.support
import tritonclient.grpc as triton
import yaml
from tests.support.cli import Project
from tests.support.cli_servers import again, server, up
from tests.support.step_graphs import Regression, write_rule
from tests.support.triton import build, running, settled_statistics

from stillhouse.clients.triton import TritonClient
from stillhouse.inference.engine import Engine
from stillhouse.inference.steps import Step, Tensor, step_file, write_steps
from stillhouse.triton.layout import view
from stillhouse.triton.locate import find, prepare_backends
from stillhouse.triton.repository import render
from stillhouse.triton.runtimes import runtime
from stillhouse.triton.settings import ServeSettings
from stillhouse.triton.writer import write

TEXTS = ["read the file", "write a list", "", "open path name value", "return return return"] * 3
STEPS = [
    {
        "name": "decide",
        "onnx": {"uri": "models:decide"},
        "inputs": {"features": "EMBEDDING"},
        "outputs": {"odds": "ODDS", "choice": "CHOICE"},
    },
    {
        "name": "rule",
        "onnx": {"uri": "file://./rule.onnx"},
        "inputs": {"odds": "decide.odds", "choice": "decide.choice"},
        "outputs": {"sure": "SURE"},
    },
]
LIMIT = 0.4


@pytest.fixture
def project(tmp_path: Path, cache: Path) -> Project:
    made = Project(tmp_path / "project", tmp_path / "home", cache).create()
    sources = made.folder / "stillhouse.yaml"
    sources.write_text(sources.read_text() + "  models:decide: file://./decide.onnx\n")
    gate = yaml.safe_load(made.file.read_text())["spec"]["gate"]
    gate["metrics"].append({"name": "agreement", "output": "CHOICE", "min": "80%"})
    made.edit(pipeline={"steps": STEPS}, gate=gate)
    return made


def test_one_file_gives_model_and_steps_as_one_model(project: Project) -> None:
    regression = Regression.random(16, 3)
    wrong = Regression.random(8, 3).write(project.folder / "decide.onnx")
    write_rule(project.folder / "rule.onnx", 3, LIMIT)
    with project.cleaned():
        said = project.still("up", "--detach", "--port", "0", str(project.file), code=2).stderr
        assert "EMBEDDING gives FP32 [rows, 16]" in said
        assert "features of step decide takes FP32 [rows, 8]" in said
        assert "spec.pipeline.steps[0].inputs.features" in said

        regression.write(wrong)
        said = up(project)
        assert "compress/int8-pipeline" in said
        assert "agreement of CHOICE" in said
        first = server(project)
        with TritonClient(first["address"]) as client:
            answer = client.infer_texts("tiny", TEXTS, provenance=True)
            single = client.infer_texts("tiny", TEXTS[:1])  # in INT8 an embedding depends a little on what is beside it
            assert settled_statistics(client, "tiny").requests_ok >= 2
            assert json.loads(client.parameters("tiny")["stillhouse.steps"]) == ["decide", "rule"]
        assert answer.embeddings is not None
        assert answer.provenance is not None
        assert answer.provenance[0]["digest"] == first["revision"]
        odds = regression.odds(answer.embeddings)
        assert set(answer.steps) == {"ODDS", "CHOICE", "SURE"}
        np.testing.assert_allclose(answer.steps["ODDS"], odds, atol=1e-5)
        assert np.asarray(answer.steps["CHOICE"]).shape == (len(TEXTS), 1)
        np.testing.assert_array_equal(np.ravel(answer.steps["CHOICE"]), odds.argmax(axis=1))
        sure = (odds[:, 0] > LIMIT) & (odds.argmax(axis=1) == 0)
        assert 0 < sure.sum() < len(sure), "the rule says both, so that it is tried"
        np.testing.assert_array_equal(np.ravel(answer.steps["SURE"]), sure)
        with triton.InferenceServerClient(first["address"]) as other:
            texts = triton.InferInput("TEXT", [1, 1], "BYTES")
            texts.set_data_from_numpy(np.array([["read the file"]], dtype=object))
            for name, expected in {**single.steps, "EMBEDDING": single.embeddings}.items():
                alone = other.infer("tiny", [texts], outputs=[triton.InferRequestedOutput(name)])
                np.testing.assert_allclose(alone.as_numpy(name), np.asarray(expected), atol=1e-5)
                assert [each.name for each in alone.get_response().outputs] == [name]
            named = [each.name for each in other.get_model_metadata("tiny").outputs]
            assert named == ["EMBEDDING", "PROVENANCE", "ODDS", "CHOICE", "SURE"]
        shown = project.data("infer", "tiny", "read the file")[0]
        assert shown["results"]
        np.testing.assert_allclose([shown["steps"]["ODDS"]], single.steps["ODDS"], atol=1e-5)
        assert f"CHOICE: {odds[0].argmax()}" in project.still("infer", "tiny", "read the file").stdout

        Regression.random(16, 3, seed=9).write(wrong)
        plan = {step["id"]: step for step in project.data("plan", str(project.file))["steps"]}
        assert plan["resolve/step-0"]["why"] == "the source has changed"
        assert plan["compress/int8"]["state"] == plan["resolve/step-1"]["state"] == "cached"
        again(project)
        second = server(project)
        assert second["revision"] != first["revision"]
        assert second["address"] == first["address"]
        project.still("down", "tiny")


def test_parts_are_joined_in_the_ensemble_of_a_gpu_too(tmp_path: Path) -> None:
    """Its own backend runs the steps, for which tests have a stand-in; what the answer and a step both need is copied."""
    place = prepare_backends(find(), tmp_path / "cache") / "onnxruntime"
    place.mkdir()
    shutil.copyfile(Path(tests.support.__path__[0]) / "onnx_backend.py", place / "model.py")
    site = build(tmp_path, tmp_path / "cache", which=replace(runtime("triton-nvidia"), accelerator="cpu", home=""))
    regression, second = Regression.random(16, 3), Regression.random(3, 2)
    regression.write(site.artifact / step_file("first"), choice=False)
    second.write(site.artifact / step_file("second"), choice=False)
    ends = (Tensor("odds", "FP32", (3,)), Tensor("odds", "FP32", (2,)))
    steps = [
        Step("first", {"features": "EMBEDDING"}, {"odds": "FIRST"}, (Tensor("features", "FP32", (16,)),), ends[:1]),
        Step("second", {"features": "first.odds"}, {"odds": "SECOND"}, (Tensor("features", "FP32", (3,)),), ends[1:]),
    ]
    write_steps(steps, site.artifact)
    write(
        render(view(site.artifact, "tiny", "sha256:00ff", "fp32"), site.options.runtime, ServeSettings(), 2.0),
        site.options.repository,
    )
    with running(site) as handle, TritonClient(handle.address) as client:
        answer = client.infer_texts("tiny", TEXTS)
        assert answer.embeddings is not None
        np.testing.assert_allclose(answer.embeddings, Engine(site.artifact).embed(TEXTS), atol=1e-5)
        first = regression.odds(answer.embeddings)
        np.testing.assert_allclose(answer.steps["FIRST"], first, atol=1e-5)
        np.testing.assert_allclose(answer.steps["SECOND"], second.odds(first), atol=1e-5)
