"""Small networks of images, and of what has an image's form: a time series is one pixel high (see `features.py`).

Stages of 3×3 convolutions with batch normalisation (Ioffe & Szegedy 2015; ONNX Runtime folds it into the convolution) and a
rectifier; each stage but the first begins at half the resolution; the mean over all pixels at the end. `separable`: depthwise and
pointwise, as MobileNets (Howard et al. 2017, arXiv:1704.04861, section 3.1). An image one pixel high or wide has kernels of one.
"""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional

from stillhouse.passes.models.shapes import ImageShape
from stillhouse.passes.models.small.mlp import layers_of
from stillhouse.planning.students import FEW_CHANNELS

__all__ = ["ImageCnn", "ImageMlp"]


class ImageCnn(nn.Module):  # type: ignore[misc]
    """The network of an `ImageShape` of form `image-cnn`: float32 [batch, channels, height, width] → [batch, hidden_size]."""

    def __init__(self, shape: ImageShape) -> None:
        """Make it, at random."""
        super().__init__()
        self.shape = shape
        before, *sides = shape.image
        stages: list[nn.Module] = []
        for number, after in enumerate(shape.channels):
            for layer in range(shape.layers):
                halved = number > 0 and layer == 0
                stages += _convolution(before, after, (sides[0], sides[1]), halved, shape.separable and before >= FEW_CHANNELS)
                sides = [math.ceil(side / 2) if halved else side for side in sides]
                before = after
        self.stages = nn.Sequential(*stages)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return features, float32 [batch, hidden_size]."""
        return self.stages(pixels).mean((2, 3))


class ImageMlp(nn.Module):  # type: ignore[misc]
    """The network of an `ImageShape` of form `image-mlp`: all numbers of an image side by side, and layers over them."""

    def __init__(self, shape: ImageShape) -> None:
        """Make it, at random."""
        super().__init__()
        self.shape = shape
        self.layers = layers_of(math.prod(shape.image), shape.hidden_size, shape.layers)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return features, float32 [batch, hidden_size]."""
        return self.layers(pixels.flatten(1))


class _Norm(nn.BatchNorm2d):  # type: ignore[misc]
    """Batch normalisation that takes what it has learned where a batch has one number a channel: that has no deviation."""

    def forward(self, input: Tensor) -> Tensor:
        """Return float32 of the same shape, [batch, channels, height, width]."""
        if self.training and input.numel() == input.shape[1]:  # the last batch has one row, and it is one pixel by now
            return functional.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(input)


def _convolution(before: int, after: int, sides: tuple[int, int], halved: bool, separable: bool) -> list[nn.Module]:
    size = tuple(1 if side == 1 else 3 for side in sides)
    step = tuple(2 if halved and side > 1 else 1 for side in sides)
    edge = tuple(each // 2 for each in size)
    if not separable:
        return [nn.Conv2d(before, after, size, step, edge, bias=False), _Norm(after), nn.ReLU()]
    return [
        nn.Conv2d(before, before, size, step, edge, groups=before, bias=False),
        _Norm(before),
        nn.ReLU(),
        nn.Conv2d(before, after, 1, bias=False),
        _Norm(after),
        nn.ReLU(),
    ]
