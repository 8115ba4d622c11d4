"""Small networks of plain numbers: rows of tables, windows of time series.

They take what was measured. The first thing that they do is to standardise it, each column or channel by the mean and deviation
of the rows that the student learned from: both are constants of the network, so whoever serves or asks it need not know them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from stillhouse.passes.models.shapes import FeatureShape, ImageShape
from stillhouse.passes.models.small.images import ImageCnn
from stillhouse.passes.models.small.mlp import layers_of

__all__ = ["FeatureNetwork"]


class FeatureNetwork(nn.Module):  # type: ignore[misc]
    """The network of a `FeatureShape`: float32 [batch, columns] or [batch, length, channels] → [batch, hidden_size].

    An mlp sees all numbers of a row side by side; a cnn is `ImageCnn` over a window that is one pixel high.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, shape: FeatureShape) -> None:
        """Make it, at random; it standardises nothing until `standardise` has said by what."""
        super().__init__()
        self.shape = shape
        self.register_buffer("mean", torch.zeros(shape.features[-1]))
        self.register_buffer("deviation", torch.ones(shape.features[-1]))
        self.inner: nn.Module
        if shape.form == "features-cnn":
            length, channels = shape.features
            self.inner = ImageCnn(
                ImageShape(
                    form="image-cnn",
                    image=(channels, 1, length),
                    layers=shape.layers,
                    hidden_size=shape.hidden_size,
                    channels=shape.channels,
                    separable=shape.separable,
                )
            )
        else:
            self.inner = layers_of(math.prod(shape.features), shape.hidden_size, shape.layers)

    def standardise(self, mean: Tensor, deviation: Tensor) -> None:
        """Say by what: float32 [columns or channels] each, deviations above 0."""
        self.mean.copy_(mean)
        self.deviation.copy_(deviation)

    def forward(self, values: Tensor) -> Tensor:
        """Return features of the row, float32 [batch, hidden_size]."""
        values = (values - self.mean) / self.deviation
        if self.shape.form == "features-cnn":
            return self.inner(values.transpose(1, 2).unsqueeze(2))
        return self.inner(values.flatten(1))
