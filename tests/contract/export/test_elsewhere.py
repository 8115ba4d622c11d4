"""Exports for other runtimes: each answers as the ONNX model does, on rows of the gate as on seeded ones."""

from __future__ import annotations

import dataclasses
import importlib
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from tests.support.artifacts import Recorder, artifact, context, dataset
from tests.support.source_folders import WORDS, pinned, raised, write_bert_folder
from tests.support.tiny_model import write_tiny_model

from stillhouse.errors import MissingPackages, SourceError, SpecError
from stillhouse.inference.signature import Signature
from stillhouse.passes.base import Artifact
from stillhouse.passes.export import elsewhere
from stillhouse.passes.export.elsewhere import ABOUT, Elsewhere, ExportedConfig, ExportedFacts
from stillhouse.passes.export.exporters import legacy
from stillhouse.passes.export.plain import plain_graph
from stillhouse.passes.export.samples import feed
from stillhouse.passes.export.tidy import tidy, write_model
from stillhouse.passes.export.to_openvino import ToOpenVino
from stillhouse.passes.export.to_tensorrt import ToTensorRt, command
from stillhouse.passes.models.artifact import load
from stillhouse.passes.runner import load_pass
from stillhouse.passes.sources.model import ImportModel, ImportModelConfig

TEXTS = ["open the file", "a", "return the list of path name value", "the the the"]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    """A tiny BERT, as the network and as the graph made from it, and rows."""
    folder = tmp_path_factory.mktemp("text")
    source = write_bert_folder(folder / "source", layers=2, hidden=32)
    ctx = dataclasses.replace(context(folder), source=source)
    ImportModel().run(ImportModelConfig(digest=pinned(source), task="sentence-embedding"), {}, ctx)
    network = artifact(ctx.out, "torch-model")
    graph = tmp_path_factory.mktemp("graph")
    signature = Signature.read(network.path)
    write_model(
        tidy(legacy(load(network.path), signature, feed(signature, 2, 8, len(WORDS)), 17), signature.output), graph / "model.onnx"
    )
    signature.write(graph)
    (graph / "tokenizer.json").write_bytes((network.path / "tokenizer.json").read_bytes())
    data = dataset(tmp_path_factory.mktemp("rows"), text=TEXTS)
    return {"network": network, "model": artifact(graph, "onnx-model"), "data": data}


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    folder = tmp_path_factory.mktemp("image")
    write_tiny_model(folder, task="image-classification")
    shape = Signature.read(folder).image
    assert shape is not None
    size = shape.channels * shape.height * shape.width
    pixels = np.random.default_rng(1).random((5, size)).tolist()
    return {"model": artifact(folder, "onnx-model"), "data": dataset(tmp_path_factory.mktemp("pixels"), image=pixels)}


def made(each: Elsewhere, inputs: dict[str, Artifact], folder: Path, **config: Any) -> tuple[ExportedFacts, Path]:
    heard = Recorder()
    ctx = context(folder, heard)
    facts = each.run(ExportedConfig(**config), inputs, ctx)
    about = json.loads((ctx.out / ABOUT).read_bytes())
    assert about["madeFrom"] == inputs["model"].digest
    assert about == {
        **dataclasses.asdict(facts),
        "inputs": list(facts.inputs),
        "output": about["output"],
        "madeFrom": about["madeFrom"],
    }
    assert (ctx.out / "signature.json").is_file()
    assert heard.notes and heard.notes[-1].startswith(f"{each.form} (")
    return facts, ctx.out


def test_openvino_answers_as_onnx_does(text: dict[str, Artifact], tmp_path: Path) -> None:
    facts, out = made(ToOpenVino(), text, tmp_path)
    assert facts.checked == "run" and facts.rows >= len(TEXTS) + elsewhere.ROWS
    assert facts.max_abs_error is not None and facts.max_abs_error < 1e-4
    assert facts.inputs[0] == "input_ids i64 [n, n]"
    assert sorted(path.name for path in out.iterdir()) == [ABOUT, "model.bin", "model.xml", "signature.json", "tokenizer.json"]


def test_openvino_in_half_the_size(text: dict[str, Artifact], tmp_path: Path) -> None:
    whole, _ = made(ToOpenVino(), text, tmp_path / "a")
    half, out = made(ToOpenVino(), text, tmp_path / "b", precision="fp16")
    assert (out / "model.bin").stat().st_size < 0.6 * (tmp_path / "a").joinpath("out", "model.bin").stat().st_size
    assert half.max_abs_error is not None and whole.max_abs_error is not None
    assert whole.max_abs_error < half.max_abs_error < 2e-2


def test_openvino_of_images_without_a_network(image: dict[str, Artifact], tmp_path: Path) -> None:
    facts, out = made(ToOpenVino(), image, tmp_path)
    assert facts.checked == "run" and facts.rows >= 5
    assert not (out / "tokenizer.json").exists()


def test_openvino_tells_nobody(text: dict[str, Artifact]) -> None:
    """Its telemetry sends on import: in a process of its own, where nothing has been imported before."""
    code = "\n".join(
        (
            "import sys",
            "sys.modules.setdefault('openvino_telemetry', None)",
            "import openvino.tools.ovc.telemetry_utils as utils",
            "print(utils.tm.__name__)",
        )
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "openvino.tools.ovc.telemetry_stub"


def test_answers_that_differ_are_refused(text: dict[str, Artifact], tmp_path: Path) -> None:
    class Off(ToOpenVino):
        def convert(self, *given: Any) -> Any:
            found = super().convert(*given)
            return dataclasses.replace(found, answer=lambda rows: found.answer(rows) + np.float32(0.01))

    said = raised(SourceError, lambda: made(Off(), text, tmp_path))
    assert "does not answer as the ONNX model does" in said and "differs by 0.01" in said


def test_what_a_converter_says_is_told(text: dict[str, Artifact], tmp_path: Path) -> None:
    class Broken(ToOpenVino):
        def convert(self, *given: Any) -> Any:
            raise RuntimeError("long\nno such operator: Frobnicate")

    said = raised(SourceError, lambda: made(Broken(), text, tmp_path))
    assert "cannot be converted for openvino" in said and "no such operator: Frobnicate" in said


def test_a_shape_that_the_model_does_not_take(text: dict[str, Artifact], image: dict[str, Artifact], tmp_path: Path) -> None:
    longest = Signature.read(text["model"].path).max_length
    assert f"at most {longest}" in raised(SpecError, lambda: made(ToTensorRt(), text, tmp_path / "a", tokens=longest + 1))
    assert "no tokens" in raised(SpecError, lambda: made(ToTensorRt(), image, tmp_path / "b", tokens=4))


# TensorRT: rendered --------------------------------------------------------------------------------------------------------


def test_tensorrt_is_rendered_for_the_machine_that_builds_it(text: dict[str, Artifact], tmp_path: Path) -> None:
    facts, out = made(ToTensorRt(), text, tmp_path, precision="fp16", batch=16, tokens=32)
    assert facts.checked == "rendered" and facts.max_abs_error is None
    engine = json.loads((out / "engine.json").read_bytes())
    names = list(Signature.read(text["model"].path).inputs)
    assert engine["profile"] == {name: ["1x1", "16x16", "16x32"] for name in names} and engine["fp16"] is True
    said = shlex.split((out / "build-engine.sh").read_text().splitlines()[-1])
    assert said[:2] == ["exec", "trtexec"] and said[-1] == "$@"
    assert f"--maxShapes={','.join(f'{name}:16x32' for name in names)}" in said and "--fp16" in said
    subprocess.run(["sh", "-n", str(out / "build-engine.sh")], check=True)
    assert all(node.domain == "" for node in onnx.load(out / "model.onnx").graph.node)


def test_the_command_is_run_beside_the_model(image: dict[str, Artifact], tmp_path: Path) -> None:
    _, out = made(ToTensorRt(), image, tmp_path, batch=4)
    shape = Signature.read(image["model"].path).image
    assert shape is not None
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "trtexec").write_text('#!/bin/sh\npwd\nprintf "%s\\n" "$@"\n')
    (tmp_path / "bin" / "trtexec").chmod(0o755)
    given = {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin"}
    done = subprocess.run(
        ["sh", str(out / "build-engine.sh"), "--verbose"], env=given, capture_output=True, text=True, check=True
    )
    folder, *words = done.stdout.splitlines()
    profile = {name: tuple(sides) for name, sides in json.loads((out / "engine.json").read_bytes())["profile"].items()}
    assert Path(folder) == out.resolve() and words == [*command(profile, "fp32")[1:], "--verbose"]
    assert words[2] == f"--minShapes={Signature.read(out).inputs[0]}:1x{shape.channels}x{shape.height}x{shape.width}"


def test_fused_operators_are_made_plain_again(text: dict[str, Artifact], tmp_path: Path) -> None:
    fused = tmp_path / "fused"
    fused.mkdir()
    graph = onnx.load(text["model"].path / "model.onnx")
    node = next(each for each in graph.graph.node if each.op_type == "MatMul")
    node.domain = "com.microsoft"
    onnx.save(graph, fused / "model.onnx")
    for name in ("signature.json", "tokenizer.json"):
        (fused / name).write_bytes((text["model"].path / name).read_bytes())
    said = raised(SourceError, lambda: plain_graph(fused, None, tmp_path))
    assert "com.microsoft:MatMul" in said
    inputs = {**text, "model": artifact(fused, "onnx-model")}
    _, out = made(ToTensorRt(), inputs, tmp_path / "made")
    assert all(each.domain == "" for each in onnx.load(out / "model.onnx").graph.node)


# what is installed apart -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["export-litert", "export-coreml"])
def test_a_package_that_is_missing_is_told_with_its_extra(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda each, *more: None if each in ("litert_torch", "coremltools") else find(each, *more)
    )
    with pytest.raises(MissingPackages) as told:
        load_pass(name)
    fix = told.value.problem.fix
    assert f"[{name}]'" in fix
    assert ("python3.11 -m venv" in fix) == (name == "export-litert"), "it asks for another torch"
