"""The upper half of a cut model, rendered."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf import text_format
from tests.unit.triton.test_repository import CLASSIFIER, view
from tritonclient.grpc import model_config_pb2 as pb

from stillhouse.inference.datatypes import TensorSpec
from stillhouse.inference.halves import Cut, sent
from stillhouse.triton.halves import upper
from stillhouse.triton.model_config import config_text
from stillhouse.triton.profile import choose
from stillhouse.triton.repository import LinkTo
from stillhouse.triton.runtimes import runtime
from stillhouse.triton.settings import ServeSettings

CPU = runtime("triton-ort-cpu")


@pytest.mark.parametrize(
    ("encoding", "types"),
    [
        ("", ["TYPE_INT64", "TYPE_FP32", "TYPE_INT64"]),
        ("fp16", ["TYPE_INT64", "TYPE_FP16", "TYPE_INT64"]),
        ("int8-rows", ["TYPE_INT64", "TYPE_INT8", "TYPE_FP64", "TYPE_INT64", "TYPE_INT64"]),
    ],
)
def test_it_is_batched_as_the_whole_and_takes_what_is_sent(encoding: str, types: list[str], tmp_path: Path) -> None:
    cut = Cut((TensorSpec("h", "FP32", (-1, -1, 16)),), ("input_ids",), ("h", "attention_mask"), "logits", encoding, 7)
    serve = ServeSettings(max_batch_size=16, max_queue_delay_us=500, max_queue_size=9)
    seen = view(CLASSIFIER)
    entries = upper(seen, "docs_upper", sent(cut), "logits", tmp_path, CPU, serve, 4)
    text = entries["docs_upper/config.pbtxt"]
    assert isinstance(text, bytes)
    config = text_format.Parse(text.decode(), pb.ModelConfig())
    whole = text_format.Parse(config_text(seen, CPU, serve, choose(4, seen.model_bytes)), pb.ModelConfig())

    assert (config.name, config.backend, config.max_batch_size) == ("docs_upper", "stillhouse_half", 16)
    assert config.dynamic_batching == whole.dynamic_batching
    assert [each.count for each in config.instance_group] == [each.count for each in whole.instance_group]
    assert [pb.DataType.Name(each.data_type) for each in config.input] == types
    ragged = {each.name: each.allow_ragged_batch for each in config.input}
    assert ragged["h"] and ragged["attention_mask"] and not ragged["CUT"]
    assert [list(each.dims) for each in config.output] == [[len(CLASSIFIER.labels)]]
    assert {path for path, entry in entries.items() if isinstance(entry, LinkTo)} == {
        f"docs_upper/1/{name}" for name in ("upper.onnx", "cut.json", "signature.json")
    }
