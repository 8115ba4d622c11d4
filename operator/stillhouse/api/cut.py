"""`spec.edge.cut`: the model in two halves, the lower one at the edge."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import StringConstraints

from stillhouse.api.base import ApiModel
from stillhouse.api.cascade import Address
from stillhouse.api.scalars import DecimalString

__all__ = ["Cut"]


class Cut(ApiModel):
    """The layers up to a named one run in the gateway, what they give travels, and the others run where the model is served.

    With `still edge FILE` and in a cluster, where the model's pods serve the upper half beside the whole model.
    """

    layer: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    """A tensor of the model that serves, or a node (its first output is meant), that all the rest of the model goes through. The
    build answers another name with those that may be used."""
    encoding: Literal["none", "fp16", "int8-rows"] = "none"
    """How activations travel: as they are, as FP16, or as INT8 with a scale and a zero point for each row."""
    max_difference: DecimalString = "0.01"
    """Most that a number of the answer (an embedding's, a logit) may differ from the uncut model's on the gate's rows, times the
    largest magnitude of the uncut answers where that is above 1. What differs more fails the build."""
    address: Address | None = None
    """Where the upper half is, as `grpcs://HOST:PORT` (`grpc://` without TLS). `still edge --cloud` is stronger than this. Left
    out: what `still up` serves here, in a cluster the pods of the same revision. A gateway that reaches no pod needs it, and a
    way to them of your own."""
