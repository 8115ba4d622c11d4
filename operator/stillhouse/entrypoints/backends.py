"""Addresses and backends as options name them."""

from __future__ import annotations

from stillhouse.errors import UsageError

__all__ = ["address_of", "models_of"]


_DIGITS, _LAST = 5, 65535


def address_of(text: str, field: str) -> tuple[str, int]:
    """Return host and port. Raises UsageError where it is no address."""
    host, colon, port = text.rpartition(":")
    number = int(port) if port.isascii() and port.isdigit() and len(port) <= _DIGITS else -1
    if not colon or not host or "\0" in host or not 0 <= number <= _LAST:
        raise UsageError("this is no address", field=field, found=text, allowed="HOST:PORT, such as 127.0.0.1:8001 or [::1]:8001")
    return host.strip("[]"), number


def models_of(given: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """Return the weights of backends, by model and address. Raises UsageError where something names none."""
    found: dict[str, dict[str, float]] = {}
    for each in given:
        name, equals, rest = each.partition("=")
        if not equals or not name or not rest:
            raise UsageError(
                "this names no backends", field="--model", found=each, allowed="NAME=HOST:PORT[@WEIGHT][,HOST:PORT[@WEIGHT]…]"
            )
        for backend in rest.split(","):
            address, at, weight = backend.partition("@")
            address_of(address, "--model")
            try:
                share = float(weight) if at else 1.0
            except ValueError:
                share = -1.0
            if not 0 <= share <= 1000:
                raise UsageError("this is no weight", field="--model", found=backend, allowed="a number from 0 to 1000")
            found.setdefault(name, {})[address] = share
    return found
