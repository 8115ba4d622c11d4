"""What a request is about: read before anybody knows whose model it names."""

from __future__ import annotations

from typing import Any

from stillhouse.edge.oip.messages import message
from stillhouse.edge.oip.outline import bounded
from stillhouse.edge.oip.tables import parsed
from stillhouse.edge.status import RpcError

__all__ = ["id_of", "inference_of", "model_of"]

_INFER = message("ModelInferRequest")


def inference_of(body: bytes) -> Any:
    """Return the `ModelInferRequest` of a message.

    Raises:
        RpcError: INVALID_ARGUMENT; it is none, or has so many parts that it is not worth reading.
    """
    bounded(body)
    return parsed(_INFER, body)


def model_of(body: bytes) -> str:
    """Return the model that a request names; `model_name` and the `name` of other requests have one number.

    Raises:
        RpcError: INVALID_ARGUMENT; it is no such request.
    """
    return str(inference_of(body).model_name)


def id_of(body: bytes) -> str:
    """Return the id of an inference; empty where it has none, or is none."""
    try:
        return str(inference_of(body).id)
    except RpcError:
        return ""
