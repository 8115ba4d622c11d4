"""Sizes as people read them."""

from __future__ import annotations

import pytest

from stillhouse.sizes import size


@pytest.mark.parametrize(("count", "shown"), [
    (0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536, "1.5 KiB"), (2**20 - 1, "1.0 MiB"), (2**20, "1.0 MiB"),
    (2**30 - 1, "1.0 GiB"), (2**41, "2048.0 GiB"),
])  # fmt: skip
def test_the_unit_fits_the_number(count: int, shown: str) -> None:
    assert size(count) == shown
