"""What the training loop goes by, and the rates that each of the network's parameters has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from stillhouse.errors import SpecError
from stillhouse.passes.distill.freezing import Freeze
from stillhouse.passes.distill.prune.config import PruneConfig
from stillhouse.passes.distill.quantize.config import QuantizeConfig
from stillhouse.passes.distill.stopping import EarlyStopping
from stillhouse.passes.models.network import Network
from stillhouse.passes.models.precision import MixedPrecision

__all__ = ["LoopSettings", "groups_of"]


@dataclass(frozen=True, slots=True)
class LoopSettings:
    """What the loop needs to know; rates per step follow from these alone."""

    epochs: int
    batch_size: int
    learning_rate: float
    warmup: float
    weight_decay: float
    checkpoint_steps: int
    seed: int
    embedding_learning_rate: float | None = None
    """Peak of the token vectors' own rate; None: the same as all."""
    freeze: Freeze | None = None
    early_stopping: EarlyStopping | None = None
    prune: PruneConfig | None = None
    head_learning_rate: float | None = None
    """Peak of the rate of the linear layer behind the pooling; None: the same as all."""
    quantize: QuantizeConfig | None = None
    mixed_precision: MixedPrecision | None = None
    """What the student's matrix products are reckoned in; None: float32, as all else is."""


def groups_of(network: Network, terms: nn.Module, settings: LoopSettings) -> list[dict[str, Any]]:
    """Return the optimizer's groups: decay pulls at matrices, never at biases and norms (Loshchilov & Hutter 2019).

    Nor at token vectors with a rate of their own: at so high a rate, decay would wear away what rare tokens began with.

    Raises:
        SpecError: such a rate, and no token vectors that we know.
    """
    parameters = [parameter for module in (network, terms) for parameter in module.parameters() if parameter.requires_grad]
    groups: list[dict[str, Any]] = []
    if settings.embedding_learning_rate is not None:
        table = network.token_vectors
        if table is None:
            raise SpecError(
                "the student shows no token vectors that could have a learning rate of their own",
                field="spec.distill.stages[].embeddingLearningRate",
                found=f"a student of kind {network.architecture.kind}",
                allowed="a text encoder or a residual student",
                fix="leave embeddingLearningRate out",
            )
        parameters = [parameter for parameter in parameters if parameter is not table]
        groups.append({"params": [table], "weight_decay": 0.0, "lr": settings.embedding_learning_rate})
    if settings.head_learning_rate is not None and network.projection is not None:
        head = list(network.projection.parameters())
        parameters = [parameter for parameter in parameters if all(parameter is not each for each in head)]
        groups.append({"params": head, "weight_decay": settings.weight_decay, "lr": settings.head_learning_rate})
    return [
        {"params": [parameter for parameter in parameters if parameter.dim() > 1], "weight_decay": settings.weight_decay},
        {"params": [parameter for parameter in parameters if parameter.dim() <= 1], "weight_decay": 0.0},
        *groups,
    ]
