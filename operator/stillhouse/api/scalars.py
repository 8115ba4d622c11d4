"""Scalars of the API: everything with a fraction or a unit is a string with a pattern.

Kubernetes' API conventions forbid floats in specs: they do not survive a round trip through every client.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, StringConstraints

from stillhouse.api.base import Mistake

__all__ = [
    "Column",
    "CpuQuantity",
    "DecimalString",
    "Duration",
    "ModelName",
    "Percent",
    "Quantity",
    "ShareOrDecimal",
    "Uri",
    "once",
    "parse_cpu",
    "parse_duration",
    "parse_percent",
    "parse_quantity",
    "parse_share_or_decimal",
    "whole",
]

DECIMAL: Final = r"^(0|[1-9][0-9]{0,8})(\.[0-9]{1,9})?$"
PERCENT: Final = r"^(100(\.0{1,3})?|[0-9]{1,2}(\.[0-9]{1,3})?)%$"
SHARE_OR_DECIMAL: Final = r"^(0|[1-9][0-9]{0,8})(\.[0-9]{1,9})?%?$"
DURATION: Final = r"^([0-9]{1,6}(\.[0-9]{1,3})?)(us|ms|s|m|h)$"
QUANTITY: Final = r"^[0-9]{1,12}(\.[0-9]{1,3})?(Ki|Mi|Gi|Ti|k|M|G|T)?$"
CPU: Final = r"^([0-9]{1,5}m|[0-9]{1,4}(\.[0-9]{1,3})?)$"
NAME: Final = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"
URI: Final = r"^[a-z][a-z0-9+.-]*:.+$"


def _no_numbers(pattern: str, example: str, unit: str = "") -> BeforeValidator:
    """Refuse a YAML number where a string belongs, with the line that mends it: with a `unit` where it lacks one."""

    def check(value: Any) -> Any:
        if isinstance(value, bool | int | float):
            quoted = f"for example {example}"
            if re.fullmatch(pattern, str(value)):
                quoted = f'"{value}"'
            elif unit and re.fullmatch(pattern, f"{value}{unit}"):
                quoted = f'for example "{value}{unit}"'
            raise Mistake("a number was given where a string belongs; write it in quotes", fix=f"write {quoted}")
        return value

    return BeforeValidator(check)


DecimalString = Annotated[str, StringConstraints(pattern=DECIMAL, max_length=20), _no_numbers(DECIMAL, '"0.7"')]
Percent = Annotated[str, StringConstraints(pattern=PERCENT, max_length=10), _no_numbers(PERCENT, '"70%"', "%")]
ShareOrDecimal = Annotated[
    str, StringConstraints(pattern=SHARE_OR_DECIMAL, max_length=20), _no_numbers(SHARE_OR_DECIMAL, '"70%" or "0.7"')
]
Duration = Annotated[str, StringConstraints(pattern=DURATION, max_length=12), _no_numbers(DURATION, '"20ms"', "ms")]
Quantity = Annotated[str, StringConstraints(pattern=QUANTITY, max_length=20), _no_numbers(QUANTITY, '"12Mi"')]
CpuQuantity = Annotated[str, StringConstraints(pattern=CPU, max_length=10), _no_numbers(CPU, '"1" or "500m"')]
ModelName = Annotated[str, StringConstraints(pattern=NAME, max_length=40)]
Column = Annotated[str, StringConstraints(min_length=1, max_length=128)]
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


def once(what: str) -> Callable[[tuple[str, ...]], tuple[str, ...]]:
    """Return a validator of names that refuses one which stands there twice; `what` they name."""

    def differ(names: tuple[str, ...]) -> tuple[str, ...]:
        twice = next((name for position, name in enumerate(names) if name in names[:position]), None)
        if twice is not None:
            raise Mistake(f"{what} {twice!r} stands here twice")
        return names

    return differ


def whole(value: Any) -> Any:
    """Refuse text and booleans where an item of a list is a whole number: the base looks at fields alone."""
    if isinstance(value, str | bool):
        raise Mistake("a whole number belongs here, without quotes")
    return value


def parse_duration(text: str) -> float:
    """Return seconds of a duration such as `20ms`.

    Raises:
        ValueError: not a duration.
    """
    found = _match(DURATION, text, "a duration")
    return float(Decimal(found.group(1)) * _SECONDS[found.group(3)])


def parse_quantity(text: str) -> int:
    """Return bytes of a quantity such as `12Mi`, rounded down.

    Raises:
        ValueError: not a quantity.
    """
    unit = _match(QUANTITY, text, "a quantity").group(2) or ""
    return int(Decimal(text.removesuffix(unit)) * _BYTES[unit])


def parse_cpu(text: str) -> float:
    """Return CPUs of a quantity such as `500m` or `2`.

    Raises:
        ValueError: not an amount of CPU.
    """
    _match(CPU, text, "an amount of CPU")
    return float(Decimal(text[:-1]) / 1000) if text.endswith("m") else float(Decimal(text))


def parse_percent(text: str) -> float:
    """Return a percentage as a share: `70%` is 0.7.

    Raises:
        ValueError: not a percentage from 0% to 100%.
    """
    _match(PERCENT, text, "a percentage")
    return float(Decimal(text.removesuffix("%")) / 100)


def parse_share_or_decimal(text: str) -> float:
    """Return `70%` as 0.7 and `0.7` as 0.7.

    Raises:
        ValueError: neither a percentage nor a decimal.
    """
    _match(SHARE_OR_DECIMAL, text, "a percentage or a decimal")
    return float(Decimal(text.removesuffix("%")) / (100 if text.endswith("%") else 1))


def _match(pattern: str, text: str, what: str) -> re.Match[str]:
    found = re.fullmatch(pattern, text)
    if found is None or text.endswith("\n"):  # `$` also matches before a last line feed
        raise ValueError(f"not {what}: {text!r}")
    return found
