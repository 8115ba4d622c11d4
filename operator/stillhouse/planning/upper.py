"""What the upper half of a model that was cut is called where it is served. Apart, for those that load no tensors."""

from __future__ import annotations

__all__ = ["UPPER"]

UPPER = "_upper"
"""End of the name under which it is served beside the model."""
