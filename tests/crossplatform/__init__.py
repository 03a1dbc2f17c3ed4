"""Environments of macOS and Windows machines, locked for Linux on a small channel and index."""
