"""What a client expects of any gRPC server: health (`grpc.health.v1`) and reflection, the way `grpcurl` and probes ask for them.

Sources: gRPC's health-checking.md and server-reflection.md; their numbers are those of the published protocols.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from stillhouse.edge.oip.messages import OIP
from stillhouse.edge.oip.tables import Protocol, parsed
from stillhouse.edge.status import Code, Reply, RpcError
from stillhouse.edge.wire.call import Call
from stillhouse.edge.wire.server import Stream, Unary

__all__ = ["HEALTH", "Health", "reflection"]

HEALTH = Protocol(
    "health.proto",
    "grpc.health.v1",
    """
HealthCheckRequest service=1:string
HealthCheckResponse status=1:HealthCheckResponse.ServingStatus
enum HealthCheckResponse.ServingStatus UNKNOWN=0 SERVING=1 NOT_SERVING=2 SERVICE_UNKNOWN=3
""",
    {
        "Health": (
            ("Check", "HealthCheckRequest", "HealthCheckResponse", False, False),
            ("Watch", "HealthCheckRequest", "HealthCheckResponse", False, True),
        )
    },
)
_REFLECTION = """
ServerReflectionRequest host=1:string file_by_filename=3:string file_containing_symbol=4:string file_containing_extension=5:ExtensionRequest all_extension_numbers_of_type=6:string list_services=7:string
ExtensionRequest containing_type=1:string extension_number=2:int32
ServerReflectionResponse valid_host=1:string original_request=2:ServerReflectionRequest file_descriptor_response=4:FileDescriptorResponse list_services_response=6:ListServiceResponse error_response=7:ErrorResponse
FileDescriptorResponse file_descriptor_proto=1:*bytes
ListServiceResponse service=1:*ServiceResponse
ServiceResponse name=1:string
ErrorResponse error_code=1:int32 error_message=2:string
"""  # noqa: E501 - one message a line
_METHOD = (("ServerReflectionInfo", "ServerReflectionRequest", "ServerReflectionResponse", True, True),)
_VERSIONS = tuple(
    Protocol(f"reflection_{version}.proto", f"grpc.reflection.{version}", _REFLECTION, {"ServerReflection": _METHOD})
    for version in ("v1", "v1alpha")
)
_SERVING, _NOT_SERVING, _UNKNOWN = 1, 2, 3
_LOOK_S = 0.5


class Health:
    """`state` says of a service's name whether it serves, None where there is no such service; "" is the whole server."""

    def __init__(self, state: Callable[[str], bool | None]) -> None:
        self._state = state
        self._request, self._response = HEALTH.message("HealthCheckRequest"), HEALTH.message("HealthCheckResponse")

    def methods(self) -> tuple[dict[str, Unary], dict[str, Stream]]:
        """Return the handlers of `Check` and `Watch`."""
        return {"/grpc.health.v1.Health/Check": self._check}, {"/grpc.health.v1.Health/Watch": self._watch}

    async def _check(self, call: Call, message: bytes) -> Reply:
        state = self._state(self._name(message))
        if state is None:
            raise RpcError(Code.NOT_FOUND, "there is no such service")
        return Reply(self._said(_SERVING if state else _NOT_SERVING))

    async def _watch(self, call: Call, messages: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        name = self._name(await anext(messages, b""))
        before = 0
        while True:
            state = self._state(name)
            now = _UNKNOWN if state is None else _SERVING if state else _NOT_SERVING
            if now != before:
                yield self._said(now)
                before = now
            await asyncio.sleep(_LOOK_S)

    def _name(self, message: bytes) -> str:
        return str(parsed(self._request, message).service)

    def _said(self, status: int) -> bytes:
        return bytes(self._response(status=status).SerializeToString())


def reflection() -> dict[str, Stream]:
    """Return the handlers of both versions of reflection, which tell of the inference protocol, health and themselves."""
    known = (OIP, HEALTH, *_VERSIONS)
    return {f"/{protocol.services[0]}/ServerReflectionInfo": _reflecting(protocol, known) for protocol in _VERSIONS}


def _reflecting(protocol: Protocol, known: tuple[Protocol, ...]) -> Stream:
    request_kind, response_kind = protocol.message("ServerReflectionRequest"), protocol.message("ServerReflectionResponse")

    async def handler(call: Call, messages: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for message in messages:
            request = parsed(request_kind, message)
            response = response_kind(valid_host=request.host, original_request=request)
            if request.list_services:
                for each in sorted(name for one in known for name in one.services):
                    response.list_services_response.service.add(name=each)
            else:
                wanted, symbol = request.file_by_filename, request.file_containing_symbol
                found = [one for one in known if one.file.name == wanted or (symbol and symbol in _symbols(one))]
                for one in found[:1]:
                    response.file_descriptor_response.file_descriptor_proto.append(one.file.SerializeToString())
                if not found:
                    response.error_response.error_code = int(Code.NOT_FOUND)
                    response.error_response.error_message = f"not known here: {wanted or symbol or 'extensions'}"[:300]
            yield response.SerializeToString()

    return handler


def _symbols(protocol: Protocol) -> set[str]:
    found = set[str]()

    def walk(prefix: str, messages: Any) -> None:
        for each in messages:
            found.add(f"{prefix}.{each.name}")
            walk(f"{prefix}.{each.name}", each.nested_type)

    walk(protocol.package, protocol.file.message_type)
    for service in protocol.file.service:
        found.add(f"{protocol.package}.{service.name}")
        found.update(f"{protocol.package}.{service.name}.{method.name}" for method in service.method)
    return found
