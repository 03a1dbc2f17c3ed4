"""A Dask cluster whose machines have the environment of the process that makes it."""

from __future__ import annotations

from envboot.cluster.cluster import Cluster

__all__ = ["Cluster"]
