"""A residual student's shape and stage, what it is taught by, and how near to its teacher it came."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.support import lessons
from tests.support.artifacts import dataset, sentences, tiny_teacher
from tests.support.lessons import go

from stillhouse.inference.signature import Signature
from stillhouse.passes.base import Artifact
from stillhouse.passes.distill.teacher import TeacherOutputs, read_outputs
from stillhouse.passes.evaluate.reference import TeacherReference

__all__ = ["SHAPE", "STAGE", "closeness", "taught", "tokens_of"]

SHAPE: dict[str, Any] = {**lessons.SHAPE, "architecture": "residual"}
STAGE: dict[str, Any] = {
    "stage": "soft",
    "losses": [
        {"kind": "embedding", "weight": 1},
        {"kind": "similarity", "weight": 0.5, "keys": 64},
        {"kind": "hidden", "layer": 3},
    ],
    "epochs": 3,
    "batchSize": 16,
    "learningRate": 0.003,
    "maxLength": 32,
    "checkpointSteps": 4,
    "seed": 5,
}


def taught(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    """Teacher, texts, and what the teacher says of them."""
    found = {
        "teacher": tiny_teacher(tmp_path_factory.mktemp("teacher")),
        "data": dataset(tmp_path_factory.mktemp("data"), text=sentences(200, seed=1)),
    }
    outputs = {"outputs": ["embedding", "hidden"], "maxLength": 32, "layers": [3]}
    found["outputs"] = go(TeacherOutputs(), outputs, found, tmp_path_factory.mktemp("outputs"))[0]
    return found


def closeness(made: Artifact, inputs: Mapping[str, Artifact], folder: Path) -> float:
    """Return the mean cosine between a model's outputs and its teacher's."""
    reference, _ = go(TeacherReference(), {"maxLength": 32}, {"teacher": made, "data": inputs["data"]}, folder)
    found = load_file(reference.path / "outputs.safetensors")["text"]
    wanted = read_outputs(inputs["outputs"].path)[0]["embedding"].float()
    return torch.nn.functional.cosine_similarity(found, wanted, dim=1).mean().item()


def tokens_of(model: Artifact) -> int:
    from tokenizers import Tokenizer

    assert Signature.read(model.path).dimension == 32
    return Tokenizer.from_file(str(model.path / "tokenizer.json")).get_vocab_size()
