"""What can be asked of a student."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from stillhouse.errors import SpecError
from stillhouse.inference.signature import Signature
from stillhouse.passes.distill.config import CamelConfig
from stillhouse.passes.models.architecture import FactoryCall

__all__ = ["Init", "StudentConfig", "check_heads"]

Init = Literal["static", "svd", "layers", "random"]


class StudentConfig(CamelConfig):
    """The student's shape; what is left out is the teacher's, or follows from the width."""

    architecture: Literal["encoder", "residual"] = "encoder"
    hidden_layers: int | None = Field(default=None, ge=1)
    hidden_size: int | None = Field(default=None, ge=1)
    intermediate_size: int | None = Field(default=None, ge=1)
    attention_heads: int | None = Field(default=None, ge=1)
    init: Init | None = None
    vocabulary_size: int | None = Field(default=None, ge=1)
    max_length: int | None = Field(default=None, ge=1)
    factory: FactoryCall | None = None
    seed: int = 0

    def limit(self, teacher: Signature, default: int = 0) -> int:
        """Return where the student cuts its texts, in tokens: the smaller of what is asked for and the teacher's limit.

        `default` is for where neither says.
        """
        return min(filter(None, (self.max_length, teacher.max_length)), default=default)


def check_heads(hidden: int, heads: int) -> None:
    """Refuse a width that does not split into this many heads.

    Raises:
        SpecError: it does not.
    """
    if hidden % heads:
        raise SpecError(
            "the width is not a multiple of the attention heads",
            field="spec.distill.student.attentionHeads",
            found=f"{hidden} / {heads}",
            allowed="a divisor of hiddenSize",
            fix=f"attentionHeads: {max(n for n in range(1, heads + 1) if hidden % n == 0)}",
        )
