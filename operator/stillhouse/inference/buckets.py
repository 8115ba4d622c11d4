"""Length buckets: which texts of a batch run through the model together.

Padding is wasted work, and so is a run of the model for a few tokens only. What a run costs is modelled as

    cost(rows, length) = overhead + tokens + excess * max(0, tokens - knee)      with tokens = rows * length

in units of "one token's work". `overhead` is what a run costs before its first token (the Python call, the graph's
operators); beyond `knee` tokens the activations leave the core's own cache and every further token costs more. Both
are nearly the same for small and large encoders when counted in tokens, because a run's overhead grows with the number of
operators just as a token's work does, so the defaults serve both (figures: docs/design/20261122-embedded-server.md).

The policy is a constant and not measured when the model is loaded: dynamic INT8 scales activations per
run, so that buckets which change from start to start would change the last digits of the answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["BucketPolicy", "padded_tokens", "split"]


@dataclass(frozen=True, slots=True)
class BucketPolicy:
    """What a run of the model costs, in tokens (see the module), and how many rows it may have at most."""

    overhead: float = 6.0
    knee: int = 256
    excess: float = 0.5
    max_rows: int = 32

    def __post_init__(self) -> None:
        if self.overhead < 0 or self.excess < 0 or self.knee < 1 or self.max_rows < 1:
            raise ValueError(f"a bucket policy needs overhead, excess >= 0 and knee, max_rows >= 1: {self}")

    def cost(self, rows: int, length: int) -> float:
        """Return the modelled cost of one run of `rows` texts padded to `length` tokens, in tokens."""
        tokens = rows * length
        return self.overhead + tokens + self.excess * max(0, tokens - self.knee)


def split(lengths: Sequence[int], policy: BucketPolicy) -> list[list[int]]:
    """Split a batch into runs of the least modelled cost.

    Args:
        lengths: tokens of each text, in the order of the batch.
        policy: what a run costs.

    Returns:
        Buckets of indices into `lengths`; every index once, short texts first, equal lengths in the batch's order.
        For a fixed set of lengths the result is always the same.

    Some optimal split is contiguous in sorted order: give the bucket that holds the longest text the longest texts of
    the two; no bucket's size changes and no maximum grows. So dynamic programming over the sorted order finds an
    optimum in O(n * max_rows).
    """
    count = len(lengths)
    if count <= 1:
        return [[0]] if count else []
    order = sorted(range(count), key=lengths.__getitem__)
    overhead, knee, excess, limit = policy.overhead, policy.knee, policy.excess, policy.max_rows
    best = [0.0] * (count + 1)
    start = [0] * (count + 1)
    for end in range(1, count + 1):
        length = lengths[order[end - 1]]
        cheapest, at = float("inf"), end - 1
        tokens = 0
        for begin in range(end - 1, max(-1, end - 1 - limit), -1):
            tokens += length
            cost = best[begin] + overhead + tokens
            if tokens > knee:
                cost += excess * (tokens - knee)
            if cost < cheapest:
                cheapest, at = cost, begin
        best[end], start[end] = cheapest, at
    buckets: list[list[int]] = []
    end = count
    while end:
        buckets.append(order[start[end] : end])
        end = start[end]
    buckets.reverse()
    return buckets


def padded_tokens(lengths: Sequence[int], buckets: Sequence[Sequence[int]]) -> int:
    """Return how many tokens run through the model, padding included."""
    return sum(len(bucket) * max(lengths[index] for index in bucket) for bucket in buckets)
