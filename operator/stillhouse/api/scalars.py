"""Scalars of the API: everything with a fraction or a unit is a string with a pattern.

Kubernetes' API conventions forbid floats in specs: they do not survive a round trip through every client.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, StringConstraints

__all__ = [
    "CpuQuantity",
    "DecimalString",
    "Duration",
    "ModelName",
    "Percent",
    "Quantity",
    "ShareOrDecimal",
    "Uri",
    "parse_cpu",
    "parse_duration",
    "parse_percent",
    "parse_quantity",
    "parse_share_or_decimal",
]

DECIMAL: Final = r"^(0|[1-9][0-9]{0,8})(\.[0-9]{1,9})?$"
PERCENT: Final = r"^(100(\.0{1,3})?|[0-9]{1,2}(\.[0-9]{1,3})?)%$"
SHARE_OR_DECIMAL: Final = r"^(0|[1-9][0-9]{0,8})(\.[0-9]{1,9})?%?$"
DURATION: Final = r"^([0-9]{1,6}(\.[0-9]{1,3})?)(us|ms|s|m|h)$"
QUANTITY: Final = r"^[0-9]{1,12}(\.[0-9]{1,3})?(Ki|Mi|Gi|Ti|k|M|G|T)?$"
CPU: Final = r"^([0-9]{1,5}m|[0-9]{1,4}(\.[0-9]{1,3})?)$"
NAME: Final = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"
URI: Final = r"^[a-z][a-z0-9+.-]*:.+$"


def _no_numbers(example: str) -> BeforeValidator:
    """Refuse a YAML number where a string belongs, with the line that mends it."""

    def check(value: Any) -> Any:
        if isinstance(value, bool | int | float):
            raise ValueError(f"a number was given where a string belongs; write it in quotes, for example {example}")
        return value

    return BeforeValidator(check)


DecimalString = Annotated[str, StringConstraints(pattern=DECIMAL, max_length=20), _no_numbers('"0.7"')]
Percent = Annotated[str, StringConstraints(pattern=PERCENT, max_length=10), _no_numbers('"70%"')]
ShareOrDecimal = Annotated[str, StringConstraints(pattern=SHARE_OR_DECIMAL, max_length=20), _no_numbers('"70%" or "0.7"')]
Duration = Annotated[str, StringConstraints(pattern=DURATION, max_length=12), _no_numbers('"20ms"')]
Quantity = Annotated[str, StringConstraints(pattern=QUANTITY, max_length=20), _no_numbers('"12Mi"')]
CpuQuantity = Annotated[str, StringConstraints(pattern=CPU, max_length=10), _no_numbers('"1" or "500m"')]
ModelName = Annotated[str, StringConstraints(pattern=NAME, max_length=40)]
Uri = Annotated[str, StringConstraints(pattern=URI, min_length=3, max_length=1024)]

_SECONDS: Final = {
    "us": Decimal("0.000001"),
    "ms": Decimal("0.001"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
}
_BYTES: Final = {
    "": 1,
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
}


def parse_duration(text: str) -> float:
    """Return seconds of a duration such as `20ms`.

    Raises:
        ValueError: not a duration.
    """
    found = re.fullmatch(DURATION.strip("^$"), text)
    if not found:
        raise ValueError(f"not a duration: {text!r}")
    return float(Decimal(found.group(1)) * _SECONDS[found.group(3)])


def parse_quantity(text: str) -> int:
    """Return bytes of a quantity such as `12Mi`, rounded down.

    Raises:
        ValueError: not a quantity.
    """
    found = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", text)
    if not found or found.group(2) not in _BYTES:
        raise ValueError(f"not a quantity: {text!r}")
    return int(Decimal(found.group(1)) * _BYTES[found.group(2)])


def parse_cpu(text: str) -> float:
    """Return CPUs of a quantity such as `500m` or `2`."""
    return float(Decimal(text[:-1]) / 1000) if text.endswith("m") else float(Decimal(text))


def parse_percent(text: str) -> float:
    """Return a percentage as a share: `70%` is 0.7."""
    return float(Decimal(text.removesuffix("%")) / 100)


def parse_share_or_decimal(text: str) -> float:
    """Return `70%` as 0.7 and `0.7` as 0.7."""
    return parse_percent(text) if text.endswith("%") else float(Decimal(text))
