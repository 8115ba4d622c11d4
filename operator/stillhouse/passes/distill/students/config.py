"""What can be asked of a student."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from stillhouse.api.student import HEAD_WIDTH, nearest_width
from stillhouse.errors import SpecError
from stillhouse.inference.signature import Signature
from stillhouse.passes.distill.config import CamelConfig
from stillhouse.passes.models.architecture import FactoryCall

__all__ = ["Init", "StudentConfig", "check_heads", "check_kernels"]

Init = Literal["static", "svd", "layers", "random"]


class StudentConfig(CamelConfig):
    """The student's shape; what is left out is the teacher's, or follows from the width.

    From `embedding_size` on what belongs to students that are no transformers (see `passes/models/shapes.py`); `kernel_sizes`
    also make a residual student's layers convolutions. `exported`: whether it becomes ONNX, which an assistant does not.
    """

    architecture: Literal["encoder", "residual", "cnn", "bilstm", "mlp"] = "encoder"
    hidden_layers: int | None = Field(default=None, ge=1)
    hidden_size: int | None = Field(default=None, ge=1)
    intermediate_size: int | None = Field(default=None, ge=1)
    attention_heads: int | None = Field(default=None, ge=1)
    init: Init | None = None
    vocabulary_size: int | None = Field(default=None, ge=1)
    max_length: int | None = Field(default=None, ge=1)
    factory: FactoryCall | None = None
    seed: int = 0
    embedding_size: int | None = Field(default=None, ge=1)
    pooling: Literal["max", "mean"] | None = None
    kernel_sizes: tuple[int, ...] = ()
    separable: bool = False
    dilated: bool = False
    channels: tuple[int, ...] = ()
    bigrams: int | None = Field(default=None, ge=1)
    exported: bool = True

    def limit(self, teacher: Signature, default: int = 0) -> int:
        """Return where the student cuts its texts, in tokens: the smaller of what is asked for and the teacher's limit.

        `default` is for where neither says.
        """
        return min(filter(None, (self.max_length, teacher.max_length)), default=default)


def check_kernels(sizes: tuple[int, ...], hidden: int) -> None:
    """Refuse more kernel sizes than there are channels.

    Raises:
        SpecError: there are more.
    """
    if len(sizes) > hidden:
        raise SpecError(
            "there are more kernel sizes than channels",
            field="spec.distill.student.convolution.kernelSizes",
            found=f"{len(sizes)} sizes, hiddenSize {hidden}",
            allowed=f"at most {hidden} sizes",
            fix="fewer kernelSizes, or a larger hiddenSize",
        )


def check_heads(hidden: int, heads: int, *, given: bool = True) -> None:
    """Refuse a width that does not split into this many heads. `given`: the file says how many; else they follow from the width.

    Raises:
        SpecError: it does not.
    """
    if not hidden % heads:
        return
    near = nearest_width(hidden, heads if given else HEAD_WIDTH)
    fewer = max(n for n in range(1, heads + 1) if hidden % n == 0)
    raise SpecError(
        "the width is not a multiple of the attention heads",
        field=f"spec.distill.student.{'attentionHeads' if given else 'hiddenSize'}",
        found=f"{hidden} / {heads}" + ("" if given else f" (a head for each {HEAD_WIDTH}, since attentionHeads is left out)"),
        allowed="a divisor of hiddenSize" if given else f"multiples of {HEAD_WIDTH}, or any with attentionHeads that divide it",
        fix=f"hiddenSize: {near}, the nearest that is; or attentionHeads: {fewer}",
    )
