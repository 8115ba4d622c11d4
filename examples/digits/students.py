"""The networks of `digits`: factories that the resource names as `students:teacher` and `students:student`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def student(num_labels: int, channels: int = 8) -> torch.nn.Module:
    """Build a convolution of 3×3, half the size, one more, and a linear layer.

    Args:
        num_labels: classes.
        channels: of the first convolution; the second has twice as many.

    Returns:
        A module from float32 [batch, 1, 8, 8] with values in [0, 1] to logits float32 [batch, num_labels].
    """
    from torch import nn

    return nn.Sequential(
        nn.Conv2d(1, channels, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(channels, 2 * channels, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(2 * channels * 4, num_labels),
    )


def teacher(num_labels: int, channels: int = 32) -> torch.nn.Module:
    """Build the same shape, wider, with a hidden layer: float32 [batch, 1, 8, 8] to logits float32 [batch, num_labels]."""
    from torch import nn

    return nn.Sequential(
        nn.Conv2d(1, channels, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.Conv2d(channels, channels, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(channels, 2 * channels, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(2 * channels * 4, 4 * channels),
        nn.ReLU(),
        nn.Linear(4 * channels, num_labels),
    )
