"""A teacher's largest logits only: what a cache of many classes is made smaller by.

Of a row's logits z [K] the k largest are kept with their classes, and of the rest what they weigh together,
r = log Σ_rest exp(z_c). Whoever reads them gets K logits again, the rest alike: r − log(K − k) each. The probabilities of
the kept classes, and the sum of the others', are then exact at temperature 1 (up to the rounding of the file); at higher
temperatures the rest gets slightly more than it had, as even logits have the largest sum of exp(z/T). With k = K − 1
nothing is lost. Without the rest's mass a student would learn that no other class is possible, which biases it (Anshumann
et al. 2025, arXiv:2503.16870).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt
from torch import Tensor

from stillhouse.planning.teaching import too_many_logits

__all__ = ["CLASSES", "REST", "TOP", "check", "shorten", "whole"]

TOP: Final = "logits-top"
CLASSES: Final = "logits-classes"
REST: Final = "logits-rest"


def check(top: int, labels: int) -> None:
    """Look whether `top` of so many logits can be kept.

    Raises:
        SpecError: there are no more than that.
    """
    wrong = too_many_logits(top, labels)
    if wrong is not None:
        raise wrong


def shorten(logits: npt.NDArray[np.float32], top: int) -> dict[str, npt.NDArray[np.generic]]:
    """Return the tensors that are kept of logits float32 [rows, K].

    `logits-top` float16 [rows, top], descending; `logits-classes` int16 (int32 where there are more than 32,767 labels)
    [rows, top]; `logits-rest` float32 [rows]: r.
    """
    labels = logits.shape[1]
    order = np.argsort(-logits, axis=1, kind="stable")
    kept = order[:, :top]
    rest = np.take_along_axis(logits, order[:, top:], axis=1).astype(np.float64)
    highest = rest.max(axis=1, keepdims=True)
    mass = highest[:, 0] + np.log(np.exp(rest - highest).sum(axis=1))
    return {
        TOP: np.take_along_axis(logits, kept, axis=1).astype(np.float16),
        CLASSES: kept.astype(np.int16 if labels <= np.iinfo(np.int16).max else np.int32),
        REST: mass.astype(np.float32),
    }


def whole(kept: Mapping[str, Tensor], labels: int) -> Tensor:
    """Return logits float32 [rows, labels] of what `shorten` kept of some rows."""
    top, classes, rest = kept[TOP].float(), kept[CLASSES].long(), kept[REST].float()
    even = rest - math.log(labels - top.shape[1])
    return even.unsqueeze(1).repeat(1, labels).scatter(1, classes, top)
