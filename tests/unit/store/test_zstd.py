"""Compressed files: what goes in comes out, others can read them, and damage is found wherever it is."""

from __future__ import annotations

import io
import random
import struct
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.clients.store import zstd


def packed(content: bytes) -> bytes:
    out = io.BytesIO()
    plain, stored = zstd.compress(io.BytesIO(content), out)
    assert (plain, stored) == (len(content), len(out.getvalue()))
    return out.getvalue()


def unpacked(content: bytes, limit: int | None = None) -> bytes:
    return b"".join(zstd.decompress(io.BytesIO(content), limit))


def floats(count: int, seed: int = 1) -> bytes:
    """Numbers as weights are: normal, 32 bits."""
    draw = random.Random(seed)
    return struct.pack(f"<{count}f", *(draw.gauss(0, 0.05) for _ in range(count)))


@given(st.binary(max_size=300), st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_what_goes_in_comes_out(content: bytes, times: int) -> None:
    whole = content * times
    assert unpacked(packed(whole)) == whole


@pytest.mark.parametrize("size", [0, 1, 3, zstd.BLOCK - 1, zstd.BLOCK, zstd.BLOCK + 1, 2 * zstd.BLOCK + 5])
def test_blocks_of_any_length(size: int, tmp_path: Path) -> None:
    content = (floats(1 << 16) * (size // (1 << 18) + 1))[:size]
    (tmp_path / "f").write_bytes(packed(content))
    assert unpacked((tmp_path / "f").read_bytes()) == content
    assert zstd.plain_size(tmp_path / "f") == size


def test_floats_get_smaller_than_zstandard_alone_makes_them() -> None:
    content = floats(1 << 18)
    ours, theirs = len(packed(content)), len(zstandard.ZstdCompressor(level=zstd.LEVEL).compress(content))
    assert ours < 0.9 * len(content) < theirs


def test_what_does_not_get_smaller_costs_a_head_and_no_more(tmp_path: Path) -> None:
    content = random.Random(2).randbytes(zstd.BLOCK)
    stored = packed(content)
    assert unpacked(stored) == content
    assert len(stored) <= len(content) + 32
    (tmp_path / "f").write_bytes(content)
    assert zstd.promise(tmp_path / "f") == 0.0


def test_the_promise_is_about_what_comes(tmp_path: Path) -> None:
    content = floats(1 << 20)
    (tmp_path / "f").write_bytes(content)
    assert zstd.promise(tmp_path / "f") == pytest.approx(1 - len(packed(content)) / len(content), abs=0.02)
    (tmp_path / "empty").write_bytes(b"")
    assert zstd.promise(tmp_path / "empty") == 0.0


def test_every_zstandard_reader_takes_it() -> None:
    content = b"a row of text\n" * 10_000
    reader = zstandard.ZstdDecompressor().stream_reader(packed(content), read_across_frames=True)
    assert reader.read() == content  # text: one plane


@given(st.integers(0, 10**9), st.integers(1, 255))
@settings(max_examples=150, deadline=None)
def test_a_changed_byte_is_found(place: int, change: int) -> None:
    content = floats(2000) + b"text " * 500
    stored = bytearray(packed(content))
    at = place % len(stored)
    stored[at] ^= change
    try:
        found = unpacked(bytes(stored))
    except zstd.Damaged:
        return
    # Three bytes of a head mean nothing, and a frame's header can say the same in another way: then the content is what it was.
    assert found == content


@given(st.integers(1, 10**9))
@settings(max_examples=50, deadline=None)
def test_a_missing_end_is_found(cut: int) -> None:
    content = floats(3000)
    stored = packed(content)
    with pytest.raises(zstd.Damaged):
        unpacked(stored[: 1 + cut % (len(stored) - 1)])


def test_a_missing_end_is_found_without_reading(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(packed(floats(3000))[:-7])
    with pytest.raises(zstd.Damaged, match="ends within a block"):
        zstd.plain_size(tmp_path / "f")


def test_no_more_than_was_said_is_unpacked() -> None:
    with pytest.raises(zstd.Damaged, match="more than 1048576 bytes"):
        unpacked(packed(bytes(zstd.BLOCK * 3)), zstd.BLOCK)


def test_another_file_is_no_such_file() -> None:
    with pytest.raises(zstd.Damaged, match="no block at byte 0"):
        unpacked(zstandard.ZstdCompressor().compress(b"x" * 1000))
