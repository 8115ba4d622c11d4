"""Families of transformers whose attention is no fused kernel of torch's go the whole way: import, student, training, export."""

import json

import pytest
import torch
from tests.contract.sources.test_import_model import run
from tests.support.artifacts import artifact, dataset, sentences, wordpiece
from tests.support.lessons import go

from stillhouse.passes.distill.student import InitStudent
from stillhouse.passes.distill.teacher import TeacherOutputs
from stillhouse.passes.distill.train import Distill
from stillhouse.passes.export.onnx import ExportOnnx

LABELS = ("io", "text", "time")
SMALL = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64, "initializer_range": 0.3}
STAGE = {
    "stage": "soft", "epochs": 4, "batchSize": 8, "learningRate": 0.01, "warmup": 0.1, "weightDecay": 0.01, "maxLength": 32,
    "checkpointSteps": 9, "seed": 5,
    "losses": [
        {"kind": "logits", "temperature": 2, "alpha": 1},
        {"kind": "attention-relation", "layer": 3, "studentLayer": 2},
        {"kind": "value-relation", "layer": 3, "studentLayer": 2},
    ],
}  # fmt: skip


def mpnet(tokens):
    from transformers import MPNetConfig, MPNetForSequenceClassification

    config = MPNetConfig(vocab_size=tokens, max_position_embeddings=66, pad_token_id=0, **SMALL)
    return MPNetForSequenceClassification, config


def deberta(tokens):
    from transformers import DebertaV2Config, DebertaV2ForSequenceClassification

    config = DebertaV2Config(
        vocab_size=tokens, max_position_embeddings=64, relative_attention=True, pos_att_type=["p2c", "c2p"], **SMALL
    )
    return DebertaV2ForSequenceClassification, config


@pytest.mark.parametrize("family", [mpnet, deberta])
def test_a_family_without_fused_attention_teaches_and_is_exported(family, tmp_path):
    tokenizer = wordpiece()
    kind, config = family(len(tokenizer["model"]["vocab"]))
    config.id2label = dict(enumerate(LABELS))
    config.label2id = {name: number for number, name in enumerate(LABELS)}
    torch.manual_seed(0)
    folder = tmp_path / "model"
    kind(config).save_pretrained(folder)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))

    imported, made = run(folder, tmp_path / "import", task="text-classification", maxLength=32)
    assert imported.labels == LABELS
    teacher = artifact(made, "torch-model")
    inputs = {"teacher": teacher, "data": dataset(tmp_path / "data", text=sentences(50, seed=1))}
    asked = {"outputs": ["logits"], "maxLength": 32, "layers": [], "shardRows": 16}
    inputs["outputs"] = go(TeacherOutputs(), asked, inputs, tmp_path / "outputs")[0]
    inputs["student"] = go(
        InitStudent(), {"hiddenLayers": 2, "init": "layers", "maxLength": 32, "seed": 3}, inputs, tmp_path / "student"
    )[0]
    trained, facts = go(Distill(), STAGE, inputs, tmp_path / "trained")
    first, last = facts["curve"][0]["terms"], facts["curve"][-1]["terms"]
    assert last["value-relation"] < first["value-relation"]
    assert last["logits"] < first["logits"]
    exported, facts = go(ExportOnnx(), {"quick": True}, {"model": trained, "teacher": teacher}, tmp_path / "exported")
    assert (exported.path / "model.onnx").is_file()
    assert facts["exporter"], "a graph that answers as the network does"
