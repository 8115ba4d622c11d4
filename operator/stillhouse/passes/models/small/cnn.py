"""Convolutions over a text's token vectors.

One layer of several kernel sizes whose largest answers are taken over the text is Kim 2014, "Convolutional Neural Networks for
Sentence Classification", arXiv:1408.5882. More layers stand beside a stream that goes past them, each behind a normalisation;
`dilated` doubles the distance between a kernel's tokens from layer to layer (Kalchbrenner et al. 2016, arXiv:1610.10099), so that
few layers see far; `separable` splits a convolution into one over positions, channel by channel, and one over channels (Kaiser,
Gomez & Chollet 2017, arXiv:1706.03059).

A convolution over positions is written as what it is, a matrix that is multiplied with each token and its neighbours side by
side: ONNX Runtime has fast INT8 kernels for that on CPUs, and none for convolutions.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stillhouse.passes.models.shapes import ResidualShape, TextShape
from stillhouse.passes.models.small.words import Words, pooled

__all__ = ["Convolutions", "TextCnn"]


class TextCnn(Words):
    """The network of a `TextShape` of form `cnn`."""

    def __init__(self, shape: TextShape) -> None:
        """Make it, at random."""
        super().__init__(shape)
        self.norm = nn.LayerNorm(shape.embedding_size)
        self.layers = nn.ModuleList(
            Convolutions(shape, shape.hidden_size if number else shape.embedding_size, 2**number if shape.dilated else 1)
            for number in range(shape.layers)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(shape.hidden_size) for _ in range(shape.layers - 1))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return features, float32 [batch, hidden_size]."""
        states = self.norm(self.tokens(input_ids))
        # Before every layer: what is padding is as zero as what lies beyond the text's ends.
        there = attention_mask.unsqueeze(-1).to(states.dtype)
        states = self.layers[0](states * there)
        for layer, norm in zip(list(self.layers)[1:], self.norms, strict=True):
            states = states + layer(norm(states) * there)
        return pooled(states, attention_mask, self.shape.pooling)


class Convolutions(nn.Module):  # type: ignore[misc]
    """Convolutions of every kernel size, their answers side by side, and a rectifier. `width`: of what they look at."""

    def __init__(self, shape: TextShape | ResidualShape, width: int, dilation: int) -> None:
        super().__init__()
        self.dilation, self.sizes = dilation, shape.kernel_sizes
        whole, rest = divmod(shape.hidden_size, len(self.sizes))
        parts = [whole + (1 if number < rest else 0) for number in range(len(self.sizes))]
        self.separable = shape.separable
        if shape.separable:
            self.over_positions = nn.ParameterList(nn.Parameter(torch.randn(size, width) * size**-0.5) for size in self.sizes)
        inputs = [width * (1 if shape.separable else size) for size in self.sizes]
        self.over_channels = nn.ModuleList(nn.Linear(*pair) for pair in zip(inputs, parts, strict=True))

    def forward(self, states: Tensor) -> Tensor:
        """[batch, sequence, width] → [batch, sequence, hidden_size]; padding must be zero."""
        length = states.shape[1]
        # Of an even kernel the larger half lies behind a token.
        before, after = (max(self.sizes) - 1) // 2, max(self.sizes) // 2
        wide = nn.functional.pad(states, (0, 0, before * self.dilation, after * self.dilation))
        near = [wide[:, at * self.dilation : at * self.dilation + length] for at in range(max(self.sizes))]
        found = []
        for number, size in enumerate(self.sizes):
            first = before - (size - 1) // 2
            seen = near[first : first + size]
            if self.separable:
                kernel = self.over_positions[number]
                joined = seen[0] * kernel[0]
                for at in range(1, size):
                    joined = joined + seen[at] * kernel[at]
            else:
                joined = torch.cat(seen, dim=-1)
            found.append(self.over_channels[number](joined))
        return nn.functional.relu(torch.cat(found, dim=-1))
