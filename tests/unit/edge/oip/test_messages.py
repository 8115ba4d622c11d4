"""The protocol's table, held against the messages that tritonclient brings: same numbers, same types, same bytes."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import descriptor_pb2
from tritonclient.grpc import service_pb2

from stillhouse.edge.oip.messages import METHODS, OIP, message


def fields(kind: Any, prefix: str = "") -> dict[str, tuple[Any, ...]]:
    found = {}
    for field in kind.field:
        found[f"{prefix}{kind.name}.{field.name}"] = (field.number, field.type, field.label, field.type_name)
    for nested in kind.nested_type:
        assert nested.options.map_entry == nested.name.endswith("Entry")
        found |= fields(nested, f"{prefix}{kind.name}.")
    return found


def theirs() -> Any:
    file = descriptor_pb2.FileDescriptorProto()
    service_pb2.DESCRIPTOR.CopyToProto(file)
    return file


@pytest.mark.parametrize("kind", OIP.file.message_type, ids=lambda kind: kind.name)
def test_every_message_is_the_protocols(kind: Any) -> None:
    (other,) = [each for each in theirs().message_type if each.name == kind.name]
    assert fields(kind) == fields(other)


def test_reflection_tells_the_names_that_json_has() -> None:
    """grpcurl shows fields as reflection names them, and everybody else's servers tell what protoc derives."""
    for kind in OIP.file.message_type:
        theirs = service_pb2.DESCRIPTOR.message_types_by_name[kind.name].fields_by_name
        assert {each.name: each.json_name for each in kind.field} == {name: theirs[name].json_name for name in theirs}


def test_every_method_is_the_protocols() -> None:
    (ours,), (other,) = OIP.file.service, theirs().service
    known = {each.name: kinds(each) for each in other.method}
    assert {each.name for each in ours.method} == {*METHODS, "ModelStreamInfer"}
    for each in ours.method:
        assert known[each.name] == kinds(each)


def kinds(method: Any) -> tuple[Any, ...]:
    return method.input_type, method.output_type, method.client_streaming, method.server_streaming


def test_the_same_bytes_are_written_and_read() -> None:
    request = service_pb2.ModelInferRequest(model_name="m", id="7", raw_input_contents=[b"\1\0\0\0x"])
    request.parameters["provenance"].bool_param = True
    tensor = request.inputs.add(name="TEXT", datatype="BYTES", shape=[1, -1])
    tensor.contents.fp32_contents.extend([0.5, 2.0])
    read = message("ModelInferRequest").FromString(request.SerializeToString())
    assert read.parameters["provenance"].WhichOneof("parameter_choice") == "bool_param"
    assert list(read.inputs[0].shape) == [1, -1] and list(read.inputs[0].contents.fp32_contents) == [0.5, 2.0]
    assert service_pb2.ModelInferRequest.FromString(read.SerializeToString()) == request
