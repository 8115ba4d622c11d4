"""A student that a Python function builds."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from stillhouse.errors import SpecError
from stillhouse.inference.signature import Signature
from stillhouse.passes.distill.shrink import Shape
from stillhouse.passes.distill.students.config import StudentConfig
from stillhouse.passes.distill.students.facts import Student
from stillhouse.passes.models import factory
from stillhouse.passes.models.architecture import Architecture, FactoryCall
from stillhouse.passes.models.network import Network

__all__ = ["factory_student"]

_FIELD = "spec.distill.student.factory"


def factory_student(call: FactoryCall, config: StudentConfig, theirs: Signature) -> Student:
    """Call the factory and try its network out. It takes ids and a mask, or the teacher's images or features.

    `theirs`: the teacher's signature.

    Raises:
        SpecError: a vocabulary was asked for, or the factory does not give a network for the teacher's task.
        SourceError: the factory is not there, or fails.
    """
    if config.vocabulary_size is not None:
        raise SpecError(
            "a factory's network has its own vocabulary",
            field="spec.distill.student.vocabulary",
            fix="leave vocabulary out, and build the embeddings that the factory needs",
        )
    body = factory.call(call, field=_FIELD)
    if not isinstance(body, nn.Module):
        raise SpecError(
            "the factory did not return a torch.nn.Module",
            field=f"{_FIELD}.target",
            found=f"{call.target} returned {type(body).__name__}",
            allowed="a function that returns a torch.nn.Module",
        )
    inputs = ("input_ids", "attention_mask") if theirs.takes_texts else theirs.inputs
    signature = dataclasses.replace(theirs, max_length=config.limit(theirs), inputs=inputs)
    architecture = Architecture(kind="factory", factory=call, normalize=theirs.task == "sentence-embedding")
    network = Network(body, architecture, signature)
    _try_out(network, call.target)
    return Student(network, "factory", Shape(0, 0, 0, 0))


def _try_out(network: Network, target: str) -> None:
    """Call a factory's network once: a wrong shape is cheaper to find now than after an hour of the teacher's work."""
    signature = network.signature
    example: tuple[Tensor, ...]
    if not signature.takes_texts:
        example = (torch.zeros(2, *signature.shape),)
    else:
        ids = torch.full((2, 4), signature.pad_id, dtype=torch.int64)
        example = (ids, torch.ones_like(ids))
    network.eval()
    try:
        with torch.no_grad():
            shape = list(network(*example).shape)
    except (Exception, SystemExit) as error:
        raise SpecError(
            f"the factory's network cannot be called: {type(error).__name__}",
            field=f"{_FIELD}.target",
            found=f"{target}: {error}",
            allowed=f"inputs {', '.join(signature.inputs)} of shapes {[list(t.shape) for t in example]}",
        ) from error
    wanted = [2, len(signature.labels) or signature.dimension]
    if shape != wanted:
        raise SpecError(
            "the factory's network gives another shape",
            field=f"{_FIELD}.target",
            found=f"{target}: {shape}",
            allowed=f"{wanted}: the example's rows, and the teacher's labels or the width of its embedding",
        )
