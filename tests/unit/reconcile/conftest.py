"""A fake cluster, and one in which a model serves."""

from __future__ import annotations

import pytest
from tests.support.cluster import Cluster, model


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def serving(cluster: Cluster) -> Cluster:
    cluster.apply(model())
    cluster.build()
    cluster.roll()
    cluster.settle()
    return cluster
