"""The arithmetic of a forward: that of a teacher which is only read, and that of a student which is trained."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from stillhouse.passes.models.device import device_of

__all__ = ["MixedPrecision", "bfloat16_in_hardware", "mixed", "reading_precision", "reading_precision_name", "trains_in_bfloat16"]

MixedPrecision = Literal["auto", "bf16"]
"""What matrix products of a training are reckoned in: bfloat16, or bfloat16 where the processor has it and else float32."""


def bfloat16_in_hardware(device: torch.device) -> bool:
    """Return whether the processor of `device` multiplies bfloat16 by itself (CPU: AMX or AVX512-BF16)."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())


def reading_precision_name(network: nn.Module) -> str:
    """Return `bfloat16` where the processor multiplies it in hardware (GPUs, AMX, AVX512-BF16), else `float32`.

    Measured for MiniLM: four times faster with AMX, 1.2 times with AVX512-BF16, mean cosine to float32 0.99999; targets are
    stored with 11 bits anyway. A graph of ONNX Runtime, which has no weights of torch's, reckons as it was written.
    """
    if next(network.parameters(), None) is None:
        return "float32"
    return "bfloat16" if bfloat16_in_hardware(device_of(network)) else "float32"


@contextlib.contextmanager
def reading_precision(network: nn.Module) -> Iterator[None]:
    """Run forwards of `network` in its reading precision; parameters stay float32. For training targets, not for figures."""
    name = reading_precision_name(network)
    with torch.autocast(device_of(network).type, dtype=torch.bfloat16, enabled=name == "bfloat16"):
        yield


def trains_in_bfloat16(precision: MixedPrecision | None, device: torch.device) -> bool:
    """Return whether a training of this precision on `device` reckons its matrix products in bfloat16."""
    return precision == "bf16" or (precision == "auto" and bfloat16_in_hardware(device))


@contextlib.contextmanager
def mixed(device: torch.device, *, bfloat16: bool) -> Iterator[None]:
    """Run a forward that is trained with its matrix products in bfloat16 (Micikevicius et al. 2018, arXiv:1710.03740).

    Parameters, their gradients and the optimizer's state stay float32. No loss scaling: bfloat16 has float32's exponents
    (Kalamkar et al. 2019, arXiv:1905.12322). Without `bfloat16` nothing is changed.
    """
    if not bfloat16:
        yield
        return
    with torch.autocast(device.type, dtype=torch.bfloat16), _attention_for(device):
        yield


def _attention_for(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    return _WideAttention() if device.type == "cpu" else contextlib.nullcontext()


class _WideAttention(TorchFunctionMode):  # type: ignore[misc]
    """Gives torch's fused attention float32: on CPUs its backward in bfloat16 takes two to three times as long."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func is not nn.functional.scaled_dot_product_attention:
            return func(*args, **kwargs)
        given = next((each.dtype for each in args if isinstance(each, Tensor)), torch.float32)
        with torch.autocast("cpu", enabled=False):
            return func(*map(_wide, args), **{name: _wide(value) for name, value in kwargs.items()}).to(given)


def _wide(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.dtype == torch.bfloat16 else value
