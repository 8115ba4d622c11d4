"""A bounded sample of what `python -m bench.fuzz` does for hours: bytes that are nearly right, and bytes that are not."""

from __future__ import annotations

import random

import pytest
from bench.fuzz_targets import TARGETS, seeds
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_bytes_of_a_stranger_are_read_or_refused(name: str, data: st.DataObject) -> None:
    body = bytearray(data.draw(st.sampled_from(seeds(name)) | st.binary(max_size=60)))
    for _ in range(data.draw(st.integers(0, 6))):
        at = data.draw(st.integers(0, len(body)))
        body[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    TARGETS[name](bytes(body))


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_and_their_prefixes(name: str) -> None:
    chance = random.Random(7)
    for seed in seeds(name):
        for end in {len(seed), *(chance.randrange(len(seed) + 1) for _ in range(20))}:
            TARGETS[name](seed[:end])
