"""Capture a Python environment and make it appear, exactly, on fresh Linux machines."""

__version__ = "0.1.0"
