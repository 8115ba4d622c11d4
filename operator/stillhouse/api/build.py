"""`build`: what a build's Jobs may use in a cluster, how many train, where they go, and the queue that admits them.

It changes no result but for the last digits.
"""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field, StringConstraints

from stillhouse.api.base import ApiModel
from stillhouse.api.pods import Placement
from stillhouse.api.serve import Resources

__all__ = ["Build"]

_QUEUE: Final = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"


class Build(ApiModel):
    """How builds run in a cluster. A laptop has no use for it, and a change of it builds nothing."""

    resources: Resources = Resources()
    """What the worker of each stage may use; left out, what the administrator settled."""
    placement: Placement = Placement()
    """Where the Jobs go. The gate's goes where the serving pods go."""
    workers: Annotated[int, Field(ge=1, le=64)] = 1
    """Pods that train together, each on its share of every batch. At most the smallest `batchSize`, and 1 where the
    student normalises over the batch, as a `cnn` of images does."""
    queue: Annotated[str, StringConstraints(pattern=_QUEUE, min_length=1, max_length=63)] | None = None
    """LocalQueue of Kueue, in the model's namespace, that admits the Jobs."""
