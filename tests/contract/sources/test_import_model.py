"""Model folders as they come, and as nobody should trust them, through the pass."""

from __future__ import annotations

import dataclasses
import errno
import io
import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tests.support.artifacts import context
from tests.support.refusals import refuse
from tests.support.source_folders import WORDS, pinned, raised, write_bert_folder

from stillhouse.errors import SourceError, UnsafeSource
from stillhouse.inference.signature import Signature
from stillhouse.passes.sources.model import ImportModel, ImportModelConfig, ModelFacts


def run(source: Path, work: Path, **config: Any) -> tuple[ModelFacts, Path]:
    work.mkdir(exist_ok=True)
    ctx = dataclasses.replace(context(work), source=source)
    data = {
        "digest": pinned(source),
        "task": "sentence-embedding",
        "maxLength": None,
        "labels": None,
        "image": None,
        "factory": None,
    }
    facts = ImportModel().run(ImportModelConfig.model_validate({**data, **config}), {}, ctx)
    return facts, ctx.out


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_bert_folder(tmp_path / "model")


def test_encoder_becomes_an_artifact_that_loads_and_gives_unit_vectors(folder: Path, tmp_path: Path) -> None:
    facts, out = run(folder, tmp_path / "work")
    assert (facts.kind, facts.pooling, facts.normalized_at_source, facts.licence) == ("torch-model", "mean", True, "apache-2.0")
    assert (facts.dimension, facts.max_length, facts.vocabulary) == (32, 48, len(WORDS))
    assert sorted(path.name for path in out.iterdir()) == [
        "architecture.json", "config.json", "model.safetensors", "signature.json", "tokenizer.json",
    ]  # fmt: skip
    assert not any(path.is_symlink() for path in out.iterdir())
    signature = Signature.read(out)
    assert (signature.inputs, signature.output, signature.dimension) == (
        ("input_ids", "attention_mask"),
        "sentence_embedding",
        32,
    )
    import torch

    from stillhouse.passes.models.artifact import load

    with torch.inference_mode():
        output = load(out)(torch.tensor([[2, 5, 6, 3]]), torch.ones(1, 4, dtype=torch.long)).numpy()
    assert output.shape == (1, 32)
    assert np.linalg.norm(output) == pytest.approx(1, abs=1e-5)


def test_same_source_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    first, second = run(folder, tmp_path / "a")[1], run(folder, tmp_path / "b")[1]
    assert {p.name: p.read_bytes() for p in first.iterdir()} == {p.name: p.read_bytes() for p in second.iterdir()}


def test_classifier_keeps_its_labels_in_order(tmp_path: Path) -> None:
    folder = write_bert_folder(tmp_path / "model", labels=("zebra", "ant", "cat"))
    facts, out = run(folder, tmp_path / "work", task="text-classification")
    assert facts.labels == Signature.read(out).labels == ("zebra", "ant", "cat")
    facts, _ = run(folder, tmp_path / "again", task="text-classification", labels=("z", "a", "c"))
    assert facts.labels == ("z", "a", "c")


def test_encoder_asked_to_classify_says_that_the_head_is_missing(tmp_path: Path) -> None:
    folder = write_bert_folder(tmp_path / "model", id2label={"0": "a", "1": "b"})
    text = raised(SourceError, lambda: run(folder, tmp_path / "work", task="text-classification"))
    assert "no classification head" in text


def test_shards_are_joined(folder: Path, tmp_path: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    shards = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for name, part in shards.items():
        save_file({key: tensors[key] for key in part}, folder / name)
    index = {"metadata": {}, "weight_map": {key: name for name, part in shards.items() for key in part}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    _, out = run(folder, tmp_path / "work")
    again = load_file(out / "model.safetensors")
    assert all(np.array_equal(again[key], tensors[key]) for key in tensors)


def test_missing_tensor_is_named(folder: Path, tmp_path: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["encoder.layer.1.output.dense.weight"]
    save_file(tensors, folder / "model.safetensors")
    assert "encoder.layer.1.output.dense.weight" in raised(SourceError, lambda: run(folder, tmp_path / "work"))


def test_tensor_of_another_shape_is_named(folder: Path, tmp_path: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["encoder.layer.0.output.dense.bias"] = np.zeros(31, np.float32)
    save_file(tensors, folder / "model.safetensors")
    text = raised(SourceError, lambda: run(folder, tmp_path / "work"))
    assert "[31]" in text
    assert "[32]" in text


def test_truncated_weights(folder: Path, tmp_path: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    assert "truncated" in raised(SourceError, lambda: run(folder, tmp_path / "work"))


class Touch:
    """Unpickling this makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors"])
def test_pickle_is_refused_and_never_run(name: str, folder: Path, tmp_path: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(pickle.dumps(Touch(tmp_path / "ran"), protocol=4))
    raised(UnsafeSource, lambda: run(folder, tmp_path / "work"))
    assert not (tmp_path / "ran").exists()


def test_code_of_the_model_is_refused_and_never_run(folder: Path, tmp_path: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModel": "modeling.Evil"}}))
    (folder / "modeling.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    raised(UnsafeSource, lambda: run(folder, tmp_path / "work"))
    assert not (tmp_path / "ran").exists()


def test_link_out_of_the_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "model.safetensors").rename(tmp_path / "elsewhere.safetensors")
    (folder / "model.safetensors").symlink_to("../elsewhere.safetensors")
    raised(UnsafeSource, lambda: run(folder, tmp_path / "work"))


def test_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    folder = write_bert_folder(tmp_path / "model", rows=len(WORDS) - 3)
    assert "does not fit" in raised(SourceError, lambda: run(folder, tmp_path / "work"))


def test_pooling_that_is_not_supported(tmp_path: Path) -> None:
    folder = write_bert_folder(tmp_path / "model", pooling="max")
    assert "max_tokens" in raised(SourceError, lambda: run(folder, tmp_path / "work"))


def test_architecture_that_transformers_does_not_know(folder: Path, tmp_path: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "never-heard-of"}))
    raised(SourceError, lambda: run(folder, tmp_path / "work"))


def test_length_beyond_the_models_positions(folder: Path, tmp_path: Path) -> None:
    assert "at most 48" in raised(SourceError, lambda: run(folder, tmp_path / "work", maxLength=49))


def settle(folder: Path, **changes: Any) -> None:
    """Change the folder's config.json."""
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("key", "value"),
    [("num_hidden_layers", 1_000_000), ("num_hidden_layers", -1), ("num_labels", 10_000_000), ("hidden_size", "32")],
)
@pytest.mark.parametrize("task", ["sentence-embedding", "text-classification"])
def test_numbers_without_bound_are_refused_before_anything_is_built(key: str, value: Any, task: str, tmp_path: Path) -> None:
    folder = write_bert_folder(tmp_path / "model", labels=("a", "b", "c"))
    settle(folder, **{key: value})
    text = raised(SourceError, lambda: run(folder, tmp_path / "work", task=task))
    assert text.startswith(f"source.uri: config.json: {key}: ")
    assert not (tmp_path / "work" / "out" / "model.safetensors").exists()


def test_labels_are_counted_before_the_weights_are_copied(tmp_path: Path) -> None:
    folder = write_bert_folder(tmp_path / "model", labels=("a", "b", "c"))
    settle(folder, id2label={str(number): str(number) for number in range(40)}, num_labels=40)
    text = raised(SourceError, lambda: run(folder, tmp_path / "work", task="text-classification"))
    assert "40 labels, 3 rows of classifier.weight" in text
    assert not (tmp_path / "work" / "out" / "model.safetensors").exists()


FACTORY = """
import torch
def make(width, looks=0):
    class Looking(torch.nn.Linear):
        def forward(self, images):
            if looks and images.sum().item() < 0:
                return images
            return super().forward(images.flatten(1))
    return Looking(4, width)
"""


@pytest.mark.parametrize("looks", [0, 1])
def test_labels_are_counted_against_a_factorys_outputs(looks: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STILLHOUSE_FACTORY_PATH", str(tmp_path))
    (tmp_path / "nets.py").write_text(FACTORY)
    (tmp_path / "teacher").mkdir()
    save_file(
        {"weight": np.zeros((3, 4), np.float32), "bias": np.zeros(3, np.float32)}, str(tmp_path / "teacher/model.safetensors")
    )
    config: dict[str, Any] = {
        "task": "image-classification",
        "image": {"height": 2, "width": 2, "channels": 1, "mean": [0.0], "std": [1.0]},
        "factory": {"target": "nets:make", "arguments": {"width": 3, "looks": looks}},
    }
    facts, _ = run(tmp_path / "teacher", tmp_path / "three", labels=["a", "b", "c"], **config)
    assert facts.labels == ("a", "b", "c")
    if looks:  # what no run without numbers can tell is left to the steps that have some
        run(tmp_path / "teacher", tmp_path / "unknown", labels=["a", "b"], **config)
        return
    error = raised(SourceError, lambda: run(tmp_path / "teacher", tmp_path / "two", labels=["a", "b"], **config))
    assert "source.labels: the labels do not fit the model" in error
    assert "2 labels, 3 outputs of nets:make" in error
    assert "allowed: 3 labels" in error


def test_width_that_the_configuration_leaves_out(folder: Path, tmp_path: Path) -> None:
    settle(folder, hidden_size=None)
    assert "hidden_size" in raised(SourceError, lambda: run(folder, tmp_path / "work"))


def test_feed_forward_in_chunks_takes_texts_of_any_length(folder: Path, tmp_path: Path) -> None:
    import torch

    from stillhouse.passes.models.artifact import load

    settle(folder, chunk_size_feed_forward=7)
    _, out = run(folder, tmp_path / "work")
    with torch.inference_mode():
        assert load(out)(torch.tensor([[2, 5, 6, 3]]), torch.ones(1, 4, dtype=torch.long)).shape == (1, 32)


@pytest.mark.parametrize("number", [np.nan, -np.inf])
def test_weights_that_are_not_finite_are_named(number: float, folder: Path, tmp_path: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["encoder.layer.1.output.dense.weight"][3, 4] = number
    save_file(tensors, folder / "model.safetensors")
    text = raised(SourceError, lambda: run(folder, tmp_path / "work"))
    assert text.startswith("source.uri: the weights are broken: encoder.layer.1.output.dense.weight")


def test_tensors_that_the_network_does_not_use_may_be_anything(folder: Path, tmp_path: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    save_file({**tensors, "cls.predictions.bias": np.full(8, np.nan, np.float32)}, folder / "model.safetensors")
    run(folder, tmp_path / "work")


def test_tokenizer_whose_template_leaves_the_embeddings(folder: Path, tmp_path: Path) -> None:
    data = json.loads((folder / "tokenizer.json").read_text())
    data["post_processor"]["special_tokens"]["[CLS]"]["ids"] = [len(WORDS)]
    (folder / "tokenizer.json").write_text(json.dumps(data))
    assert f"token id {len(WORDS)}" in raised(SourceError, lambda: run(folder, tmp_path / "work"))
    settle(folder, vocab_size=None)  # the weights have the number as well
    assert f"token id {len(WORDS)}" in raised(SourceError, lambda: run(folder, tmp_path / "again"))


def test_source_that_changed_since_the_plan(folder: Path, tmp_path: Path) -> None:
    text = raised(SourceError, lambda: run(folder, tmp_path / "work", digest="sha256:another"))
    assert "changed" in text


def opening(monkeypatch: pytest.MonkeyPatch, refused: Path, number: int) -> None:
    """Let the system refuse to open one file, by whatever name."""
    refuse(monkeypatch, io, "open", lambda file: file.resolve() == refused.resolve(), number)


def test_a_file_that_may_no_longer_be_read_is_named(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its digest is known from before."""
    digest = pinned(folder)
    opening(monkeypatch, folder / "model.safetensors", errno.EACCES)
    text = raised(SourceError, lambda: run(folder, tmp_path / "work", digest=digest))
    assert text.startswith("source.uri: the source cannot be read")
    assert f"model: [Errno 13] Permission denied: '{folder / 'model.safetensors'}'" in text
    assert "ask its owner for the right to read it" in text


def test_what_the_store_cannot_take_is_no_fault_of_the_source(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched, pytest.raises(PermissionError):
        opening(patched, folder / "work" / "out" / "model.safetensors", errno.EACCES)
        run(folder, folder / "work")  # the store lies beside the model

    def full(source: Path, *_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(source))  # shutil names what it copies

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(OSError, match="No space left on device"):
        run(folder, tmp_path / "work")
