"""From what the model says to what the client gets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["softmax", "top_labels"]


def softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return probabilities float32 [n, labels]; the row's maximum is taken off first, so that nothing overflows."""
    import numpy as np

    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    result: npt.NDArray[np.float32] = shifted / shifted.sum(axis=1, keepdims=True)
    return result


def top_labels(probabilities: npt.NDArray[np.float32], labels: Sequence[str]) -> list[str]:
    """Return the most probable label of each row; the first one of equals."""
    return [labels[index] for index in probabilities.argmax(axis=1).tolist()]
