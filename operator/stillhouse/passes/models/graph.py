"""A teacher that is an ONNX graph, called as the networks of torch are: what it says can be learned from, and nothing else of it.

Trees and other models without layers come as such files. Nothing flows back through it, and it has no layers to look into.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from stillhouse.inference.engine import Engine
from stillhouse.inference.signature import Signature
from stillhouse.passes.models.architecture import Architecture, FactoryCall
from stillhouse.passes.models.network import Network

__all__ = ["graph_network", "is_graph"]

MODEL_FILE = "model.onnx"


class _Graph(nn.Module):  # type: ignore[misc]
    def __init__(self, folder: Path, threads: int) -> None:
        super().__init__()
        self.engine = Engine(folder, threads)

    def forward(self, values: Tensor) -> Tensor:
        return torch.from_numpy(self.engine.raw_arrays(values.numpy()))


def is_graph(folder: Path) -> bool:
    """Return whether an artifact is an ONNX model that takes arrays: of one of texts more is asked than its answer."""
    return (folder / MODEL_FILE).is_file() and not Signature.read(folder).takes_texts


def graph_network(folder: Path) -> Network:
    """Return the model of an onnx-model artifact that takes arrays, in evaluation mode; it runs in torch's threads.

    Raises:
        SourceError: a file is missing, or the graph does not run.
    """
    body = _Graph(folder, torch.get_num_threads())
    # Of a network that is not ours nothing but its answer is known, as of a factory's.
    called = FactoryCall(target="onnx:graph")
    network = Network(body, Architecture(kind="factory", factory=called), body.engine.signature)
    network.eval()
    return network
