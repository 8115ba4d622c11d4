"""First weights of a smaller model out of a larger one of the same family.

`layers` keeps a choice of the teacher's layers as they are (Sanh et al. 2019, arXiv:1910.01108, section 3).
`svd` also makes them narrower. The residual stream of width H is projected onto the h largest right singular vectors B
[H, h] of the word embeddings, the directions along which tokens differ most; every weight that reads or writes the
stream is multiplied by B on that side. What lies inside a layer is chosen, not mixed: whole attention heads and
feed-forward neurons of the largest norm, because a rotation would not pass through softmax and GELU.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from stillhouse.errors import SpecError

__all__ = ["Shape", "chosen_layers", "right_singular_vectors", "shape_of", "shrink"]

_LAYER: Final = re.compile(r"(?<=\.)(layer|layers|h|block|blocks)\.(\d+)(?=\.)")
# Weights whose rows (or columns) are attention heads, by the names that Hugging Face's encoders use.
_HEADS_OUT: Final = re.compile(
    r"(query|key|value|q_lin|k_lin|v_lin|q_proj|k_proj|v_proj|attn\.q|attn\.k|attn\.v)\.(weight|bias)$"
)
_HEADS_IN: Final = re.compile(r"(attention\.output\.dense|attention\.out_lin|o_proj|out_proj|attn\.o)\.weight$")
_NORM: Final = re.compile(r"(norm|ln_?\d*|layer_?norm)\.(weight|bias)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Shape:
    """What of a configuration the weights' sizes follow from."""

    layers: int
    hidden: int
    heads: int
    intermediate: int


def shape_of(config: Any) -> Shape:
    """Read the shape out of a Hugging Face configuration."""
    inner = next((getattr(config, name) for name in INTERMEDIATE_NAMES if getattr(config, name, None)), 0)
    return Shape(int(config.num_hidden_layers), int(config.hidden_size), int(config.num_attention_heads), int(inner))


INTERMEDIATE_NAMES: Final = ("intermediate_size", "hidden_dim", "ffn_dim", "d_ff")


def chosen_layers(teacher: int, student: int) -> tuple[int, ...]:
    """Return which of the teacher's layers (from 0) the student starts from: evenly spread, first and last among them."""
    if student == 1:
        return (teacher - 1,)
    return tuple(round(at * (teacher - 1) / (student - 1)) for at in range(student))


def right_singular_vectors(matrix: Tensor, count: int) -> Tensor:
    """Return the `count` largest right singular vectors of float32 [rows, width] as orthonormal columns [width, count].

    From the Gram matrix: exact enough here, and [30000, 384] takes milliseconds. Signs are fixed, so that the same
    matrix always gives the same vectors.
    """
    gram = matrix.double().T @ matrix.double()
    _, vectors = torch.linalg.eigh(gram)
    basis = vectors.flip(1)[:, :count]
    largest = basis.abs().argmax(0)
    signs = torch.sign(basis[largest, torch.arange(basis.shape[1])])
    return (basis * signs).float()


def shrink(
    teacher: dict[str, Tensor],
    student: dict[str, Tensor],
    shapes: tuple[Shape, Shape],
    layers: Sequence[int],
    rows: Tensor,
    embeddings: str,
) -> tuple[dict[str, Tensor], float]:
    """Fill the student's tensors from the teacher's.

    Args:
        teacher: state of the large network.
        student: state of the small one (gives names and sizes), same names but for layer numbers.
        shapes: of teacher and student.
        layers: the teacher's layer for each of the student's.
        rows: int64, the vocabulary's rows to keep.
        embeddings: the name of the word embeddings.

    Returns:
        New tensors for the student, and the share of the embeddings' energy that the basis keeps.

    Raises:
        SpecError: a tensor whose size cannot be brought into line.
    """
    large, small = shapes
    words = teacher[embeddings][rows]
    basis = right_singular_vectors(words, small.hidden) if small.hidden < large.hidden else None
    kept = 1.0 if basis is None else float((words @ basis).pow(2).sum() / words.pow(2).sum().clamp(min=1e-30))
    out: dict[str, Tensor] = {}
    for name, wanted in student.items():
        source_name, layer = _origin(name, layers)
        source = teacher.get(source_name)
        if source is None:
            continue
        value = source[rows] if name == embeddings else source
        for axis in range(value.dim()):
            value = _fit(value, axis, int(wanted.shape[axis]), source_name, layer, teacher, shapes, basis)
        out[name] = value.clone().contiguous()
    return out, kept


def _origin(name: str, layers: Sequence[int]) -> tuple[str, str]:
    """Return the teacher's name of a student's tensor, and the prefix of the layer that it lies in ("": none)."""
    found = _LAYER.search(name)
    if not found:
        return name, ""
    layer = f"{name[: found.start()]}{found.group(1)}.{layers[int(found.group(2))]}"
    return layer + name[found.end() :], layer + "."


def _fit(
    value: Tensor,
    axis: int,
    size: int,
    name: str,
    layer: str,
    teacher: dict[str, Tensor],
    shapes: tuple[Shape, Shape],
    basis: Tensor | None,
) -> Tensor:
    large, small = shapes
    have = int(value.shape[axis])
    if have == size:
        return value
    heads = (axis == 0 and _HEADS_OUT.search(name)) or (axis == 1 and _HEADS_IN.search(name))
    width = large.hidden // large.heads
    if heads and have == large.hidden and width == small.hidden // small.heads and small.heads <= large.heads:
        chosen = _strongest(teacher, layer, _HEADS_OUT, _HEADS_IN, large.heads, small.heads)
        index = (chosen.unsqueeze(1) * width + torch.arange(width)).flatten()
        return value.index_select(axis, index)
    if basis is not None and have == large.hidden and size == small.hidden:
        if value.dim() == 1 and _NORM.search(name) and name.endswith("weight"):
            return basis.pow(2).T @ value  # the diagonal of Bᵀ diag(γ) B
        return torch.tensordot(value, basis, dims=([axis], [0])).movedim(-1, axis)
    if have == large.intermediate and size == small.intermediate and size < have:
        return value.index_select(axis, _strongest_neurons(teacher, layer, have, size))
    raise SpecError(
        "the teacher's weights cannot be brought to the student's size",
        field="spec.distill.student.init",
        found=f"{name}: {have} to {size}",
        allowed="smaller sizes than the teacher's",
        fix="init: random, or another shape",
    )


def _strongest(
    teacher: dict[str, Tensor], layer: str, outward: re.Pattern[str], inward: re.Pattern[str], heads: int, keep: int
) -> Tensor:
    """Return the heads of one layer with the largest product of the norms of what they read and what they write."""
    score = torch.ones(heads)
    for name in sorted(teacher):
        if not name.startswith(layer) or not name.endswith("weight"):
            continue
        if outward.search(name):
            score = score * teacher[name].reshape(heads, -1).norm(dim=1)
        elif inward.search(name):
            score = score * teacher[name].T.reshape(heads, -1).norm(dim=1)
    return torch.sort(torch.argsort(-score, stable=True)[:keep]).values


def _strongest_neurons(teacher: dict[str, Tensor], layer: str, neurons: int, keep: int) -> Tensor:
    """Return the feed-forward neurons of one layer with the largest product of norms of input and output weights."""
    score = torch.ones(neurons)
    for name in sorted(teacher):
        tensor = teacher[name]
        if name.startswith(layer) and tensor.dim() == 2 and neurons in tensor.shape:
            score = score * (tensor if tensor.shape[0] == neurons else tensor.T).norm(dim=1)
    return torch.sort(torch.argsort(-score, stable=True)[:keep]).values
