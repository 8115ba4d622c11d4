"""Scalars with a unit: what is written is what is meant, and nothing else is read."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.api import scalars
from stillhouse.api.scalars import (
    parse_cpu,
    parse_duration,
    parse_percent,
    parse_quantity,
    parse_share_or_decimal,
)

PARSERS: list[tuple[Callable[[str], float], str]] = [
    (parse_duration, scalars.DURATION),
    (parse_quantity, scalars.QUANTITY),
    (parse_cpu, scalars.CPU),
    (parse_percent, scalars.PERCENT),
    (parse_share_or_decimal, scalars.SHARE_OR_DECIMAL),
]
thousandths = st.integers(0, 999)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("20ms", 0.02), ("0ms", 0.0), ("1.5s", 1.5), ("500us", 0.0005), ("2m", 120.0), ("1h", 3600.0), ("0.125ms", 0.000125)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("12Mi", 12 * 2**20),
        ("12M", 12_000_000),
        ("0.5Gi", 2**29),
        ("7", 7),
        ("1k", 1000),
        ("1Ki", 1024),
        ("1.5", 1),
        ("2Ti", 2**41),
    ],
)
def test_quantities(text: str, amount: int) -> None:
    assert parse_quantity(text) == amount


@pytest.mark.parametrize(("text", "cpus"), [("1", 1.0), ("500m", 0.5), ("0.25", 0.25), ("1500m", 1.5)])
def test_cpus(text: str, cpus: float) -> None:
    assert parse_cpu(text) == cpus


@pytest.mark.parametrize(
    ("text", "share"), [("70%", 0.7), ("0%", 0.0), ("100%", 1.0), ("99.5%", 0.995), ("0.7", 0.7), ("12", 12.0)]
)
def test_shares(text: str, share: float) -> None:
    assert parse_share_or_decimal(text) == share


@given(st.integers(0, 999_999), thousandths, st.sampled_from(["us", "ms", "s", "m", "h"]))
def test_durations_keep_their_value(whole: int, fraction: int, unit: str) -> None:
    number = Decimal(whole) + Decimal(fraction) / 1000
    factor = {"us": Decimal("1e-6"), "ms": Decimal("1e-3"), "s": Decimal(1), "m": Decimal(60), "h": Decimal(3600)}[unit]

    assert parse_duration(f"{number}{unit}") == float(number * factor)


@given(st.integers(0, 10**12 - 1), st.sampled_from(["", "k", "M", "G", "T", "Ki", "Mi", "Gi", "Ti"]))
def test_quantities_keep_their_value(number: int, unit: str) -> None:
    base, powers = (1024, "KMGT") if unit.endswith("i") else (1000, "kMGT")
    power = powers.index(unit[0]) + 1 if unit else 0

    assert parse_quantity(f"{number}{unit}") == number * base**power


@given(st.integers(0, 99_999))
def test_thousandths_of_a_cpu_are_the_same_as_a_decimal(thousandth: int) -> None:
    assert parse_cpu(f"{thousandth}m") == parse_cpu(f"{Decimal(thousandth) / 1000:.3f}")


@given(st.integers(0, 100_000))
def test_a_percentage_is_a_hundredth(thousandth: int) -> None:
    text = f"{Decimal(thousandth) / 1000}%"

    assert parse_percent(text) == float(Decimal(thousandth) / 100_000)
    assert parse_share_or_decimal(text) == parse_percent(text)


@pytest.mark.parametrize(("parser", "pattern"), PARSERS, ids=lambda each: getattr(each, "__name__", None))
@given(data=st.data())
def test_what_fits_the_pattern_is_read_and_nothing_else(
    parser: Callable[[str], float], pattern: str, data: st.DataObject
) -> None:
    """The API server checks the pattern alone, so whatever fits it must have a value."""
    fitting = data.draw(st.from_regex(pattern.removesuffix("$") + r"\Z"))
    assert parser(fitting) >= 0

    other = data.draw(st.text() | st.from_regex(r"[0-9.]{0,6}[a-zA-Z%]{0,3}\n?"))
    if re.fullmatch(pattern.removesuffix("$"), other):
        assert parser(other) >= 0
    else:
        with pytest.raises(ValueError, match="not a"):
            parser(other)
