"""What messages carry beside the protobuf (docs/mqtt.md): the agreement of device and bridge."""

from __future__ import annotations

from stillhouse.edge.oip.messages import SERVICE

__all__ = ["CODE", "CONTENT", "INFER", "KEY", "PASSED", "TEXT", "TIMEOUT"]

INFER = f"/{SERVICE}/ModelInfer"
KEY = "idempotency-key"
"""The metadata that is the correlation data of a request."""
CODE, TEXT, TIMEOUT = "code", "message", "timeout-ms"
"""User properties: of an answer that is an error, its code and words; of a request, the milliseconds that it was given."""
PASSED = frozenset({"traceparent", "tracestate"})
"""Metadata that goes along as user properties."""
CONTENT = 'application/x-protobuf; messageType="inference.{}"'
"""The content type of a message of the protocol."""
