"""Fields that cases of several parts change, and students that several of them have."""

from __future__ import annotations

__all__ = ["CASCADE", "CNN", "CONVOLVED", "EDGE", "LOSS", "METRIC", "PLAIN", "SOFT", "STAGE", "STUDENT"]

STAGE = "spec.distill.stages[0]"
LOSS = f"{STAGE}.losses[0]"
METRIC = "spec.gate.metrics[0]"
EDGE = "spec.edge"
CASCADE = f"{EDGE}.cascade"
STUDENT = "spec.distill.student"
SOFT = "spec.distill.stages[0].losses"
PLAIN = [{"kind": "embedding"}]
CNN = {
    "architecture": "cnn",
    "hiddenLayers": 2,
    "hiddenSize": 96,
    "embeddingSize": 64,
    "pooling": "mean",
    "init": "random",
    "convolution": {"kernelSizes": [3, 5], "separable": True, "dilated": True},
}
CONVOLVED = {"architecture": "residual", "hiddenSize": 256, "convolution": {"kernelSizes": [3], "dilated": True}}
