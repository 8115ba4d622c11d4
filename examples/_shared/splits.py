"""Deterministic splits: an item's place depends on its text and the seed, never on the order in which it was read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

__all__ = ["deal", "fraction", "in_hash_order"]

Item = TypeVar("Item")


def fraction(key: str, seed: int) -> float:
    """Give a number in [0, 1) that is fixed by `key` and `seed` and otherwise looks random."""
    digest = hashlib.blake2b(f"{seed}\0{key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def in_hash_order(items: Iterable[Item], key: Callable[[Item], str], seed: int) -> list[Item]:
    """Sort items in an order that looks random and is the same on every machine."""
    return sorted(items, key=lambda item: (fraction(key(item), seed), key(item)))


def deal(items: Sequence[Item], shares: Mapping[str, float]) -> dict[str, list[Item]]:
    """Cut a sequence into named parts.

    Args:
        items: in the order in which they are dealt.
        shares: part → share of the items; together at most 1. What is left over belongs to nobody.

    Raises:
        ValueError: the shares are more than the whole.
    """
    if sum(shares.values()) > 1 + 1e-9:
        raise ValueError(f"shares add up to {sum(shares.values()):.3f}, more than the whole")
    parts, start, total = {}, 0, 0.0
    for name, share in shares.items():
        total += share
        end = round(total * len(items))
        parts[name] = list(items[start:end])
        start = end
    return parts
