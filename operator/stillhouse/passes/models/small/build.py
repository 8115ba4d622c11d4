"""A small network by its shape."""

from __future__ import annotations

from torch import nn

from stillhouse.passes.models.shapes import FeatureShape, ImageShape, TextShape
from stillhouse.passes.models.small.bilstm import BiLstm
from stillhouse.passes.models.small.cnn import TextCnn
from stillhouse.passes.models.small.features import FeatureNetwork
from stillhouse.passes.models.small.images import ImageCnn, ImageMlp
from stillhouse.passes.models.small.mlp import TextMlp

__all__ = ["build_small"]


def build_small(shape: TextShape | ImageShape | FeatureShape) -> nn.Module:
    """Return the network of a shape, its weights at random."""
    if isinstance(shape, ImageShape):
        return ImageCnn(shape) if shape.form == "image-cnn" else ImageMlp(shape)
    if isinstance(shape, FeatureShape):
        return FeatureNetwork(shape)
    forms = {"cnn": TextCnn, "bilstm": BiLstm, "mlp": TextMlp}
    return forms[shape.form](shape)
