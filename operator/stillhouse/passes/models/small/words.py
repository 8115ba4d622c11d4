"""What the small text networks have in common: token vectors, and pooling over what is no padding."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from stillhouse.passes.models.shapes import TextShape

__all__ = ["Words", "pooled"]


class Words(nn.Module):  # type: ignore[misc]
    """The base of the small text networks.

    `forward(input_ids, attention_mask)`, both int64 [batch, sequence], mask 1 for tokens and 0 for padding on the right, returns
    features, float32 [batch, hidden_size]. What stands behind the mask changes nothing.
    """

    def __init__(self, shape: TextShape) -> None:
        """Make the table of token vectors, at random."""
        super().__init__()
        self.shape = shape
        self.tokens = nn.Embedding(shape.vocabulary, shape.embedding_size)
        # Small vectors learn faster: AdamW's steps are of one size whatever the weights' own is. A normalisation follows.
        nn.init.normal_(self.tokens.weight, std=0.1)


def pooled(states: Tensor, mask: Tensor, pooling: Literal["max", "mean"]) -> Tensor:
    """Return the largest or the mean of states [batch, sequence, width] over the tokens, [batch, width]."""
    there = mask.unsqueeze(-1).to(states.dtype)
    if pooling == "mean":
        return (states * there).sum(1) / torch.clamp(there.sum(1), min=1.0)
    # Added to what is padding: far below any state, so that it is nobody's largest.
    return (states + (there - 1.0) * 1e9).amax(1)
