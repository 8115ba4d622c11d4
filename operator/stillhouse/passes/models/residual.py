"""A sentence encoder that corrects a weighted bag of words.

    out = mean_i(w_i·E_i) + P · mean_i(Encoder(E)_i) + b

over a text's tokens i. E are token vectors as wide as the output, w their weights (see `passes/distill/bag.py`). With E
from the teacher and P = 0 the network begins as the bag, which is a fair sentence embedding already, and the encoder is
left to learn what order and context add. In a post-norm transformer the normalisation behind the embeddings would make
all tokens equally weighty, and random layers would hide the rest.

The weights are a table of their own: in INT8 a table has one scale, which rows of very unequal length would not share
well. They are not trained: the vectors can become longer and shorter by themselves. Layers normalise before each block
(Xiong et al. 2020, arXiv:2002.04745), positions are learned vectors.

The encoder's layers are a transformer's, or convolutions (see `small/cnn.py`), which see a token's neighbours alone; of three
tokens they multiply a quarter as much at the same width.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from stillhouse.passes.models.shapes import ResidualShape
from stillhouse.passes.models.small.cnn import Convolutions

__all__ = ["Attention", "ResidualEncoder"]

Attention = Literal["sdpa", "eager"]
_EPSILON = 1e-6


class ResidualEncoder(nn.Module):  # type: ignore[misc]
    """The network of a `ResidualShape`. Its weights start at random, `project` at 0.

    `forward(input_ids, attention_mask)`, both int64 [batch, sequence], mask 1 for tokens and 0 for padding, returns float32
    [batch, dimension], not normalised. `states` also returns the pooled state of every layer.
    """

    def __init__(self, shape: ResidualShape, attention: Attention = "sdpa") -> None:
        super().__init__()
        self.shape = shape
        width = shape.hidden_size
        self.tokens = nn.Embedding(shape.vocabulary, shape.dimension)
        self.token_weights = nn.Embedding(shape.vocabulary, 1)
        self.positions = nn.Embedding(shape.max_length, width)
        self.narrow = nn.Linear(shape.dimension, width)
        convolved = bool(shape.kernel_sizes)
        self.layers = nn.ModuleList(
            _Convolved(shape, 2**number if shape.dilated else 1) if convolved else _Layer(shape, attention)
            for number in range(shape.layers)
        )
        self.norm = nn.LayerNorm(width, eps=_EPSILON)
        self.project = nn.Linear(width, shape.dimension)
        # Token vectors of mean square 1 stay so, and outweigh what the first layers add.
        nn.init.normal_(self.narrow.weight, std=shape.dimension**-0.5)
        nn.init.normal_(self.positions.weight, std=0.1)
        nn.init.ones_(self.token_weights.weight)
        self.token_weights.requires_grad_(False)
        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.project.bias)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return sentence vectors, float32 [batch, dimension]."""
        return self._run(input_ids, attention_mask, keep=False)[0]

    def states(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return sentence vectors, and pooled states [batch, hidden_size]: of the embeddings, then of each layer."""
        return self._run(input_ids, attention_mask, keep=True)

    def _run(self, input_ids: Tensor, attention_mask: Tensor, *, keep: bool) -> tuple[Tensor, tuple[Tensor, ...]]:
        vectors = self.tokens(input_ids)
        there = attention_mask.unsqueeze(-1).to(vectors.dtype)
        share = there / torch.clamp(there.sum(1, keepdim=True), min=1.0)
        bag = (vectors * (self.token_weights(input_ids) * share)).sum(1)
        states = self.narrow(vectors) + self.positions.weight[: input_ids.shape[1]]
        if self.shape.kernel_sizes:
            around = there
        else:  # added to the attention's logits: what is padding gets no share. [batch, 1, 1, sequence]
            around = (1.0 - attention_mask[:, None, None, :].to(vectors.dtype)) * torch.finfo(torch.float32).min
        kept = [(states * share).sum(1)] if keep else []
        for layer in self.layers:
            states = layer(states, around)
            if keep:
                kept.append((states * share).sum(1))
        pooled = (self.norm(states) * share).sum(1)
        return bag + self.project(pooled), tuple(kept)


class _Convolved(nn.Module):  # type: ignore[misc]
    """Convolutions behind a normalisation and beside the stream that goes past them."""

    def __init__(self, shape: ResidualShape, dilation: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(shape.hidden_size, eps=_EPSILON)
        self.convolutions = Convolutions(shape, shape.hidden_size, dilation)

    def forward(self, states: Tensor, there: Tensor) -> Tensor:
        """`there`: 0 for padding, which is then as zero as what lies beyond the text's ends, else 1; [batch, sequence, 1]."""
        found: Tensor = self.convolutions(self.norm(states) * there)
        return states + found


class _Layer(nn.Module):  # type: ignore[misc]
    """Attention and feed-forward, each behind a normalisation and beside the stream that goes past it."""

    def __init__(self, shape: ResidualShape, attention: Attention) -> None:
        super().__init__()
        width = shape.hidden_size
        self.size, self.attention = width // shape.heads, attention
        self.norm_attention = nn.LayerNorm(width, eps=_EPSILON)
        # One product for the three: a small one costs its start more than its multiplications.
        self.query_key_value = nn.Linear(width, 3 * width)
        self.attention_out = nn.Linear(width, width)
        self.norm_feed = nn.LayerNorm(width, eps=_EPSILON)
        self.feed_in = nn.Linear(width, shape.intermediate_size)
        self.feed_out = nn.Linear(shape.intermediate_size, width)

    def forward(self, states: Tensor, block: Tensor) -> Tensor:
        states = states + self.attention_out(self._attend(self.norm_attention(states), block))
        feed: Tensor = self.feed_out(nn.functional.gelu(self.feed_in(self.norm_feed(states))))
        return states + feed

    def _attend(self, states: Tensor, block: Tensor) -> Tensor:
        batch, length, _ = states.shape
        width = self.attention_out.in_features  # fewer heads than the shape says, where some were pruned
        parts = self.query_key_value(states).split(width, dim=-1)
        query, key, value = (part.view(batch, length, width // self.size, self.size).transpose(1, 2) for part in parts)
        if self.attention == "sdpa":
            found = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=block)
        else:
            scores = query @ key.transpose(-1, -2) / math.sqrt(self.size) + block
            found = torch.softmax(scores, dim=-1) @ value
        return found.transpose(1, 2).reshape(batch, length, width)
