from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.support.source_folders import bert_config, bert_tensors, raised

from stillhouse.errors import SourceError
from stillhouse.passes.sources.architecture import read_config, write_config
from stillhouse.passes.sources.folder import SourceFolder
from stillhouse.passes.sources.numbers import check_numbers, check_sizes, table_rows, width_of
from stillhouse.passes.sources.weights import Tensor

TENSORS = {name: Tensor("F32", value.shape, 0, value.nbytes) for name, value in bert_tensors(bert_config()).items()}


@pytest.mark.parametrize("key", ["hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size",
                                 "max_position_embeddings", "n_layers", "dim"])  # fmt: skip
@pytest.mark.parametrize("value", [0, -1, "12", 1.5, True, [], [4, -1]])
def test_what_counts_is_a_number_above_nothing(key: str, value: Any, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**bert_config(), key: value}))
    text = raised(SourceError, lambda: read_config(SourceFolder.open(tmp_path)))
    assert text.startswith(f"source.uri: config.json: {key}: ")
    assert "fix:" in text


def test_numbers_as_other_families_write_them() -> None:
    check_numbers({"num_attention_heads": [1, 2, 5, 8], "depths": [2, 2], "num_hidden_layers": {"vision": 5, "language": 9},
                   "type_vocab_size": 0, "num_labels": 0, "pad_token_id": -1, "hidden_size": None})  # fmt: skip


@pytest.mark.parametrize(
    ("key", "value"),
    [("num_hidden_layers", 1_000_000), ("n_layers", 300), ("depths", [2, 1_000_000]), ("num_labels", 10_000_000),
     ("hidden_size", 10**12), ("vocab_size", 10**9), ("max_position_embeddings", 49)],
)  # fmt: skip
def test_what_no_such_weights_can_have(key: str, value: Any) -> None:
    check_sizes(bert_config(), TENSORS)
    text = raised(SourceError, lambda: check_sizes({**bert_config(), key: value}, TENSORS))
    assert text.startswith(f"source.uri: config.json: {key}: ")


def test_layers_that_share_their_weights_are_more_than_the_tensors() -> None:
    few = {"embeddings.word_embeddings.weight": Tensor("F32", (50, 32), 0, 6400)}
    check_sizes({"model_type": "albert", "hidden_size": 32, "num_hidden_layers": 24}, few)
    assert table_rows(few) == 50
    assert table_rows({"bert.my_word_embeddings.weight": few["embeddings.word_embeddings.weight"]}) is None


def test_tensors_without_numbers_hold_no_layers() -> None:
    empty = {f"layers.{number}.weight": Tensor("F32", (0, 10**9), 0, 0) for number in range(2000)}
    raised(SourceError, lambda: check_sizes({"num_hidden_layers": 2000}, {**TENSORS, **empty}))
    raised(SourceError, lambda: check_sizes({"num_labels": 10**9}, {**TENSORS, **empty}))


@pytest.mark.parametrize("config", [{}, {"hidden_size": None}, {"hidden_sizes": [3]}, {"hidden_size": [32, 64]}])
def test_width_that_is_not_said(config: dict[str, Any]) -> None:
    assert "hidden_size" in raised(SourceError, lambda: width_of(config))
    assert width_of({"dim": 7}) == 7


def test_texts_need_no_certain_length(tmp_path: Path) -> None:
    """With `chunk_size_feed_forward` a text whose length is no multiple of it fails, long after the import."""
    for value, written in ((7, 0), (0, 0)):
        (tmp_path / "config.json").write_text(json.dumps({**bert_config(), "chunk_size_feed_forward": value}))
        (tmp_path / "out").mkdir(exist_ok=True)
        folder = SourceFolder.open(tmp_path)
        write_config(folder, read_config(folder), tmp_path / "out")
        assert json.loads((tmp_path / "out" / "config.json").read_text()) == {**bert_config(), "chunk_size_feed_forward": written}
    assert (tmp_path / "out" / "config.json").read_bytes() == (tmp_path / "config.json").read_bytes()
