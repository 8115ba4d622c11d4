"""The network of a torch-model artifact: one way to call it, whatever it is made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from stillhouse.inference.signature import Signature
from stillhouse.passes.models.architecture import Architecture
from stillhouse.passes.models.residual import ResidualEncoder
from stillhouse.passes.models.small.words import Words

__all__ = ["Network", "NetworkOutput", "count_parameters", "pool_mean"]


class NetworkOutput:
    """What one forward gives.

    `output`: float [batch, dimension], L2-normalised embeddings or logits [batch, labels].
    `hidden`: pooled hidden states, float [batch, hidden size] each: index 0 the embeddings, then one per layer;
    empty unless asked for.
    `traces`: what a `Traces` kept of it, float [batch, positions, width] each; `mask` int64 [batch, positions], 0 for padding,
    None where there is none.
    """

    __slots__ = ("hidden", "mask", "output", "traces")

    def __init__(
        self,
        output: Tensor,
        hidden: tuple[Tensor, ...] = (),
        traces: Mapping[str, Tensor] | None = None,
        mask: Tensor | None = None,
    ) -> None:
        self.output = output
        self.hidden = hidden
        self.traces = traces or {}
        self.mask = mask

    def there(self, trace: Tensor) -> Tensor:
        """Return which positions of a trace are no padding, bool [batch, positions]."""
        if self.mask is None:
            return torch.ones(trace.shape[:2], dtype=torch.bool, device=trace.device)
        return self.mask.bool()


class Network(nn.Module):  # type: ignore[misc]
    """A text encoder, a classifier or a user's own network, by its architecture and signature.

    `body` is the Hugging Face model or the factory's network, `projection` a linear layer or None.
    `forward` takes tensors in the order of `signature.inputs` (int64 [batch, sequence] for texts, float32 [batch,
    channels, height, width] already normalised for images, features as they are) and returns the one output tensor, so that
    it can be traced for export as it is.
    """

    def __init__(
        self, body: nn.Module, architecture: Architecture, signature: Signature, projection: nn.Linear | None = None
    ) -> None:
        super().__init__()
        self.body = body
        self.projection = projection
        self.architecture = architecture
        self.signature = signature

    @property
    def config(self) -> Any:
        """Return the Hugging Face configuration, or None for a network that is none of theirs."""
        return getattr(self.body, "config", None) if self.architecture.kind.startswith("hf-") else None

    @property
    def layers(self) -> int:
        """Return the number of layers whose hidden states can be had (0 for a factory's network, and for a small one)."""
        residual = self.architecture.residual
        return residual.layers if residual else int(getattr(self.config, "num_hidden_layers", 0) or 0)

    @property
    def hidden_size(self) -> int:
        """Return the width of the hidden states (0 for a factory's network, and for a small one)."""
        residual = self.architecture.residual
        return residual.hidden_size if residual else int(getattr(self.config, "hidden_size", 0) or 0)

    @property
    def heads(self) -> int:
        """Return the number of attention heads (0 where there is no telling)."""
        residual = self.architecture.residual
        return residual.heads if residual else int(getattr(self.config, "num_attention_heads", 0) or 0)

    @property
    def token_vectors(self) -> nn.Parameter | None:
        """Return the table of token vectors, float32 [vocabulary, width]; None where there is none that we know."""
        if isinstance(self.body, ResidualEncoder | Words):
            return self.body.tokens.weight
        if self.architecture.kind == "factory" or not self.signature.takes_texts:
            return None
        return self.body.get_input_embeddings().weight

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return embeddings or logits, float32 [batch, dimension or labels]."""
        return self._run(inputs, hidden=False).output

    def run(self, *inputs: Tensor, hidden: bool = False) -> NetworkOutput:
        """Like `forward`, with the pooled hidden states of every layer where asked for."""
        return self._run(inputs, hidden)

    def _run(self, inputs: tuple[Tensor, ...], hidden: bool) -> NetworkOutput:
        if self.architecture.kind == "factory":
            output = self.body(*inputs)
            return NetworkOutput(self._normalised(output))
        if isinstance(self.body, ResidualEncoder):
            output, states = self.body.states(*inputs) if hidden else (self.body(*inputs), ())
            return NetworkOutput(self._normalised(output), states)
        if self.architecture.small is not None:  # no layers that could be held against a transformer's
            features = self.body(*inputs)
            return NetworkOutput(self._normalised(features if self.projection is None else self.projection(features)))
        if self.signature.task == "image-classification":
            result = self.body(pixel_values=inputs[0], output_hidden_states=hidden)
            states = tuple(
                state.flatten(2).mean(2) if state.dim() == 4 else state.mean(1) for state in result.hidden_states or ()
            )
            return NetworkOutput(result.logits, states)
        named = dict(zip(self.signature.inputs, inputs, strict=True))
        result = self.body(**named, output_hidden_states=hidden)
        mask = named["attention_mask"]
        states = tuple(pool_mean(state, mask) for state in result.hidden_states) if hidden else ()
        if self.architecture.pooling is None:
            return NetworkOutput(result.logits, states)
        last = result.last_hidden_state
        pooled = last[:, 0] if self.architecture.pooling == "cls" else pool_mean(last, mask)
        if self.architecture.kind == "hf-classifier":
            pooled = self._normalised(pooled)  # the head's input; logits are what they are
            return NetworkOutput(pooled if self.projection is None else self.projection(pooled), states)
        if self.projection is not None:
            pooled = self.projection(pooled)
        return NetworkOutput(self._normalised(pooled), states)

    def _normalised(self, output: Tensor) -> Tensor:
        if not self.architecture.normalize:
            return output
        return nn.functional.normalize(output, p=2.0, dim=1, eps=1e-12)


def pool_mean(states: Tensor, mask: Tensor) -> Tensor:
    """Return the mean over tokens that are not padding: states [batch, sequence, hidden], mask [batch, sequence]."""
    weights = mask.unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(1) / torch.clamp(weights.sum(1), min=1e-9)


def count_parameters(network: nn.Module) -> tuple[int, int]:
    """Return the number of parameters, with and without those of embedding tables."""
    total = sum(parameter.numel() for parameter in network.parameters())
    tables = {id(m.weight): m.weight.numel() for m in network.modules() if isinstance(m, nn.Embedding)}
    return total, total - sum(tables.values())
