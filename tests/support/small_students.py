"""Students that are no transformers, of every kind, and a stage that teaches them."""

from __future__ import annotations

from typing import Any

__all__ = ["KINDS", "STAGE"]

KINDS: dict[str, Any] = {
    "cnn": {"architecture": "cnn", "hiddenLayers": 2, "hiddenSize": 26, "kernelSizes": [2, 3, 5], "dilated": True},
    "separable": {"architecture": "cnn", "hiddenLayers": 2, "hiddenSize": 24, "kernelSizes": [4], "separable": True},
    "bilstm": {"architecture": "bilstm", "hiddenLayers": 2, "hiddenSize": 24, "pooling": "mean"},
    "mlp": {"architecture": "mlp", "hiddenLayers": 2, "hiddenSize": 24},
    "bigrams": {"architecture": "mlp", "hiddenSize": 24, "bigrams": 512},
}
STAGE: dict[str, Any] = {
    "stage": "soft",
    "losses": [{"kind": "embedding"}],
    "epochs": 3,
    "batchSize": 16,
    "learningRate": 0.003,
    "maxLength": 32,
}
