"""One file, compressed: Zstandard over blocks of 1 MiB, each of whose bytes are put in the order that compresses best.

Of a million floats the bytes with the exponent are much alike, the others noise; side by side they compress as noise. So a block
is tried as it is, and with the first bytes of its 2- or 4-byte words together, then the second ones, and so on (*planes*); the
smallest is kept. What that saves on real artifacts stands in docs/store.md. A block that does not get smaller is kept as it is.

A file is a sequence of Zstandard frames that every Zstandard reader takes (it gives the planes back, not the words). Before a
block's frame, which carries its own checksum, stands a *skippable* one of 12 bytes with what we must know of it: planes (u8; 0:
the block is stored as it is, in a skippable frame too), three zeros, its plain and its stored bytes (u32), little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from stillhouse.errors import MissingPackages
from stillhouse.extras import install

__all__ = ["BLOCK", "LEVEL", "SUFFIX", "Damaged", "compress", "decompress", "plain_size", "promise", "smallest"]

SUFFIX = ".still.zst"
LEVEL = 3
"""Level 9 saves half a point more and takes twice the time, level 19 as little and fifty times (docs/store.md)."""
BLOCK = 1 << 20
_PLANES = (1, 2, 4)
_HEAD = struct.Struct("<IIB3xII")  # skippable frame: magic, length; ours: planes, plain bytes, stored bytes
_RAW_HEAD = struct.Struct("<II")
_ABOUT = 0x184D2A5E
_RAW = 0x184D2A5F
_SAMPLES = 8
Report = Callable[[int], None]


class Damaged(Exception):
    """The compressed file is not as it was written; the text says where."""


def compress(
    source: IO[bytes], target: IO[bytes], report: Report | None = None, *, seen: Callable[[bytes], object] | None = None
) -> tuple[int, int]:
    """Compress a stream; return (plain bytes, stored bytes). `report` is told plain bytes read, `seen` is given every block.

    Raises:
        MissingPackages: zstandard is not installed.
    """
    squeeze = _module().ZstdCompressor(level=LEVEL, write_checksum=True, write_content_size=True).compress
    plain = stored = 0
    while block := source.read(BLOCK):
        if seen is not None:
            seen(block)
        planes, best = smallest(block, squeeze)
        head = _HEAD.pack(_ABOUT, _HEAD.size - 8, planes, len(block), len(best))
        if planes == 0:  # a skippable frame too, so that the whole stays readable to others (who then lack this block)
            head += _RAW_HEAD.pack(_RAW, len(best))
        target.write(head)
        target.write(best)
        plain, stored = plain + len(block), stored + len(head) + len(best)
        if report is not None:
            report(plain)
    return plain, stored


def decompress(source: IO[bytes], limit: int | None = None) -> Iterator[bytes]:
    """Yield the plain blocks of what `compress` wrote, at most `limit` bytes of them.

    Raises:
        Damaged: a block is not as it was written, the end is missing, or there is more than `limit`.
        MissingPackages: zstandard is not installed.
    """
    module = _module()
    expand = module.ZstdDecompressor().decompress
    at = done = 0
    while head := source.read(_HEAD.size):
        planes, plain, stored = _head(head, at)
        if planes == 0 and source.read(_RAW_HEAD.size) != _RAW_HEAD.pack(_RAW, stored):
            raise Damaged(f"the block at byte {at} is damaged")
        content = source.read(stored)
        try:
            block = content if planes == 0 else expand(content, max_output_size=plain, allow_extra_data=False)
        except module.ZstdError as error:
            raise Damaged(f"the block at byte {at} is damaged: {error}") from error
        if len(block) != plain:
            raise Damaged(f"the block at byte {at} is not whole")
        done += plain
        if limit is not None and done > limit:
            raise Damaged(f"it unpacks to more than {limit} bytes")
        yield _together(block, planes) if planes > 1 else block
        at += _whole(planes, stored)


def plain_size(path: Path) -> int:
    """Return the plain bytes of a file that `compress` wrote, from its heads alone: no content is read.

    Raises:
        Damaged: the heads do not fit the file. OSError: it cannot be read.
    """
    size = path.stat().st_size
    plain = at = 0
    with path.open("rb") as stream:
        while at < size:
            planes, length, stored = _head(stream.read(_HEAD.size), at)
            plain += length
            at += _whole(planes, stored)
            stream.seek(at)
    if at != size:
        raise Damaged(f"it ends within a block, at byte {size}")
    return plain


def promise(path: Path) -> float:
    """Return the share (0 to 1) that compressing a file would save, judged by eight blocks spread over it.

    Raises:
        OSError: it cannot be read. MissingPackages: zstandard is not installed.
    """
    squeeze = _module().ZstdCompressor(level=LEVEL).compress
    size = path.stat().st_size
    blocks = -(-size // BLOCK)
    places = sorted({number * blocks // _SAMPLES for number in range(_SAMPLES)}) if blocks else []
    plain = stored = 0
    with path.open("rb") as stream:
        for place in places:
            stream.seek(place * BLOCK)
            block = stream.read(BLOCK)
            plain += len(block)
            stored += len(smallest(block, squeeze)[1])
    return 1 - stored / plain if plain else 0.0


def smallest(block: bytes, squeeze: Callable[[bytes], bytes]) -> tuple[int, bytes]:
    """Return (planes, bytes) of the smallest form; planes 0: the block as it is."""
    planes, best = min(
        ((planes, squeeze(block if planes == 1 else _apart(block, planes))) for planes in _PLANES), key=lambda each: len(each[1])
    )
    return (planes, best) if len(best) < len(block) else (0, block)


def _apart(block: bytes, planes: int) -> bytes:
    return b"".join(block[first::planes] for first in range(planes))


def _together(block: bytes, planes: int) -> bytes:
    whole = bytearray(len(block))
    at = 0
    for first in range(planes):
        length = (len(block) - first + planes - 1) // planes
        whole[first::planes] = block[at : at + length]
        at += length
    return bytes(whole)


def _whole(planes: int, stored: int) -> int:
    """Return the bytes of a block in the file, head and all."""
    return _HEAD.size + (_RAW_HEAD.size if planes == 0 else 0) + stored


def _head(head: bytes, at: int) -> tuple[int, int, int]:
    """Return (planes, plain bytes, stored bytes) of the block whose head stands at byte `at`."""
    if len(head) == _HEAD.size:
        magic, length, planes, plain, stored = _HEAD.unpack(head)
        well = plain <= BLOCK and stored <= plain if planes == 0 else planes in _PLANES and plain <= BLOCK and stored < plain
        if (magic, length) == (_ABOUT, _HEAD.size - 8) and well and plain:
            return int(planes), int(plain), int(stored)
    raise Damaged(f"there is no block at byte {at}")


def _module() -> Any:
    try:
        import zstandard
    except ImportError as error:
        raise MissingPackages("what is stored compressed needs zstandard", found=str(error), fix=install("build")) from error
    return zstandard
