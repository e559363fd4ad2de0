"""A cluster of Dask, for tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from MLTools.NanoML.extensions.dask.test.service import DaskCluster
from services.fixtures import started


@pytest.fixture(scope="module")
def dask_cluster() -> Iterator[DaskCluster]:
    """A Dask cluster by its address, which uses the processor as long as it is there. One that a test ends has to be started again."""
    pytest.importorskip("distributed")
    cluster = DaskCluster()
    with started(cluster, cluster.stop):
        yield cluster
