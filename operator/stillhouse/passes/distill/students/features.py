"""A student of tables or time series: at random, but for what it standardises its inputs by."""

from __future__ import annotations

import dataclasses
from typing import Final, cast

import numpy as np
import torch

from stillhouse.errors import SpecError
from stillhouse.inference.signature import Signature
from stillhouse.passes.distill.rows import Rows
from stillhouse.passes.distill.students.config import StudentConfig
from stillhouse.passes.distill.students.facts import Student
from stillhouse.passes.distill.students.small import small_network, small_sizes
from stillhouse.passes.models.shapes import FeatureShape
from stillhouse.passes.models.small.features import FeatureNetwork
from stillhouse.planning.students import CHANNELS, HIDDEN_SIZE

__all__ = ["feature_student"]

_SMALLEST: Final = 1e-30
"""A column that deviates by less is constant. Of a request's 1 it would make more than 1e30, which the next layers multiply to
infinity in float32, whose numbers end at 3e38; what is measured (an electron's charge: 1.6e-19) is far above."""


def feature_student(config: StudentConfig, teacher: Signature, rows: Rows) -> Student:
    """Return a student that standardises by the mean and deviation of `rows`, column by column or channel by channel.

    A column that never changes, as far as float32 can tell, is left as far from its mean as it is: it says nothing, and has no
    deviation to divide by.

    Raises:
        SpecError: the architecture is none for such inputs.
        DataError: the rows have another form than the teacher's.
    """
    features = teacher.features
    assert features is not None  # asked before
    series = len(features.shape) > 1
    if config.architecture not in ("mlp", "cnn")[: 2 if series else 1]:
        raise SpecError(
            f"a student of {'time series' if series else 'tables'} is none of these",
            field="spec.distill.student.architecture",
            found=config.architecture,
            allowed="mlp, cnn" if series else "mlp",
            fix="architecture: mlp",
        )
    channels = (config.channels or CHANNELS) if config.architecture == "cnn" else ()
    shape = FeatureShape.model_validate(
        {
            "form": f"features-{config.architecture}",
            "features": features.shape,
            "layers": config.hidden_layers or 1,
            "hidden_size": channels[-1] if channels else config.hidden_size or HIDDEN_SIZE,
            "channels": channels,
            "separable": config.separable,
        }
    )
    values = rows.arrays(teacher).reshape(-1, features.shape[-1]).astype(np.float64)
    mean = values.mean(axis=0).astype(np.float32)
    spread = values.std(axis=0).astype(np.float32)
    # What rounding leaves of a constant is no deviation.
    deviation = np.where(spread > np.maximum(np.abs(mean) * 1e-6, _SMALLEST), spread, np.float32(1))
    known = dataclasses.replace(features, mean=tuple(mean.tolist()), std=tuple(deviation.tolist()))
    signature = dataclasses.replace(teacher, inputs=("features",), output="logits", features=known)
    network = small_network(shape, signature)
    cast("FeatureNetwork", network.body).standardise(torch.from_numpy(mean), torch.from_numpy(deviation))
    return Student(network, "random", small_sizes(shape), cosine=0.0, architecture=config.architecture)
