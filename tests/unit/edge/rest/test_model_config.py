"""The table of a model's configuration, held against the messages that tritonclient brings."""

from __future__ import annotations

from typing import Any

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2, service_pb2

from stillhouse.edge.rest.documents import plain
from stillhouse.edge.rest.model_config import config_of, messages


def shape(kind: Any, seen: dict[str, Any]) -> dict[str, Any]:
    name = kind.full_name.removeprefix("inference.").removeprefix("config.")
    if name in seen:
        return seen
    seen[name] = found = {}
    for field in kind.fields:
        inner = field.message_type or field.enum_type
        told = inner.full_name.removeprefix("inference.").removeprefix("config.") if inner is not None else ""
        choice = field.containing_oneof.name if field.containing_oneof is not None and field.message_type is None else ""
        found[field.name] = (field.number, field.type, field.is_repeated, told, choice)
        if field.enum_type is not None:
            seen[told] = {each.name: each.number for each in field.enum_type.values}
        elif inner is not None:
            shape(inner, seen)
    return seen


def test_every_message_is_tritons() -> None:
    ours = shape(messages().message("ModelConfigResponse").DESCRIPTOR, {})
    assert ours == shape(service_pb2.ModelConfigResponse.DESCRIPTOR, {})
    assert len(ours) > 40


def test_a_configuration_reads_as_triton_tells_it() -> None:
    config = text_format.Parse(
        """name: "m" max_batch_size: 8
        input { name: "x" data_type: TYPE_FP32 dims: [-1, 3] } instance_group { kind: KIND_CPU count: 2 }
        dynamic_batching { max_queue_delay_microseconds: 9007199254740993 } parameters { key: "k" value { string_value: "v" } }
        metric_tags { key: "a" value: "b" } optimization { cuda { graph_spec { input { key: "x" value { dim: 4 } } } } }""",
        model_config_pb2.ModelConfig(),
    )
    found = plain(config_of(service_pb2.ModelConfigResponse(config=config).SerializeToString()))
    assert found["input"][0] | {"data_type": "TYPE_FP32", "dims": [-1, 3], "format": "FORMAT_NONE"} == found["input"][0]
    assert found["instance_group"][0]["kind"] == "KIND_CPU" and found["metric_tags"] == {"a": "b"}
    assert found["dynamic_batching"]["max_queue_delay_microseconds"] == 9007199254740993 and "sequence_batching" not in found
    assert found["parameters"] == {"k": {"string_value": "v"}} and "version_policy" not in found
    assert found["optimization"]["cuda"]["graph_spec"][0]["input"] == {"x": {"dim": [4]}}
