"""Environments that no machine has to make."""

from __future__ import annotations

from envboot.manifest import Base, Manifest, Python


def make_manifest(version: str) -> Manifest:
    """Return an environment of that Python and nothing else."""
    python = Python(version=version, source="conda")
    return Manifest(base=Base(platform="linux-64", python=python, virtual_packages={}, tools={}))
