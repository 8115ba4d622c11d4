"""Where a network that is only read does its work: the device that trainings take."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

__all__ = ["device_of", "reading_device", "tensors_of", "there"]

_CPU = torch.device("cpu")


def reading_device() -> torch.device:
    """Return the device that `accelerate` trains on here: a GPU where torch sees one, else the CPU.

    `ACCELERATE_USE_CPU=true`, which is accelerate's own, takes the CPU in either case. Not asked of accelerate itself: whoever
    only reads a network does not depend on it.
    """
    on_cpu = os.environ.get("ACCELERATE_USE_CPU", "").lower() in {"1", "true", "yes", "on", "y", "t"}
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() and not on_cpu else _CPU


def device_of(network: nn.Module) -> torch.device:
    """Return where the weights of `network` lie; the CPU where it has none, as an ONNX graph that teaches: it runs there."""
    return next((parameter.device for parameter in network.parameters()), _CPU)


def tensors_of(
    batch: tuple[npt.NDArray[np.int64], ...] | tuple[npt.NDArray[np.float32], ...], device: torch.device = _CPU
) -> tuple[Tensor, ...]:
    """Return a batch's arrays as tensors on `device`; on the CPU without a copy."""
    return tuple(torch.from_numpy(array).to(device) for array in batch)


@contextlib.contextmanager
def there(network: nn.Module) -> Iterator[None]:
    """Have `network` on the reading device meanwhile; afterwards it is on the CPU, where weights are looked at."""
    network.to(reading_device())
    try:
        yield
    finally:
        network.to(_CPU)
