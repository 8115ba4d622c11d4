"""Two LSTMs over a text, one from either end.

Hochreiter & Schmidhuber 1997; Schuster & Paliwal 1997; as a student of a transformer in Tang et al. 2019, "Distilling
Task-Specific Knowledge from BERT into Simple Neural Networks", arXiv:1903.12136; the largest of each state over the text in
Conneau et al. 2017, arXiv:1705.02364.

The one that reads backwards must begin at a text's end and not in its padding. Packed sequences do not pass the exporters, so
each text's tokens are put into the reverse order where they stand: both LSTMs read forwards, padding comes last for both, and
what they say there is not looked at.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stillhouse.passes.models.shapes import TextShape
from stillhouse.passes.models.small.words import Words, pooled

__all__ = ["BiLstm"]


class BiLstm(Words):
    """The network of a `TextShape` of form `bilstm`; `hidden_size` is both directions' together."""

    def __init__(self, shape: TextShape) -> None:
        """Make it, at random."""
        super().__init__(shape)
        self.norm = nn.LayerNorm(shape.embedding_size)
        self.layers = nn.ModuleList(
            _Layer(shape.hidden_size if number else shape.embedding_size, shape.hidden_size // 2)
            for number in range(shape.layers)
        )

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return features, float32 [batch, hidden_size]."""
        states = self.norm(self.tokens(input_ids))
        turned = _turned(attention_mask)
        for layer in self.layers:
            states = layer(states, turned)
        return pooled(states, attention_mask, self.shape.pooling)


class _Layer(nn.Module):  # type: ignore[misc]
    """One LSTM from either end, their states side by side."""

    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        self.forwards = nn.LSTM(width, size, batch_first=True)
        self.backwards = nn.LSTM(width, size, batch_first=True)
        for each in (self.forwards, self.backwards):
            with torch.no_grad():  # what is remembered stays at first: Jozefowicz, Zaremba & Sutskever 2015, section 2.2
                each.bias_ih_l0[size : 2 * size] = 1.0

    def forward(self, states: Tensor, turned: Tensor) -> Tensor:
        """[batch, sequence, width] → [batch, sequence, 2 · size]; `turned` as of `_turned`."""
        first, _ = self.forwards(states)
        second, _ = self.backwards(_take(states, turned))
        return torch.cat([first, _take(second, turned)], dim=-1)


def _turned(mask: Tensor) -> Tensor:
    """Return where each place's counterpart stands, int64 [batch, sequence]: the text in reverse, padding where it is."""
    places = torch.cumsum(torch.ones_like(mask), 1) - 1
    return torch.where(mask > 0, mask.sum(1, keepdim=True) - 1 - places, places)


def _take(states: Tensor, places: Tensor) -> Tensor:
    """Return each row's states in the order of its places."""
    return torch.gather(states, 1, places.unsqueeze(-1).expand(-1, -1, states.shape[2]))
