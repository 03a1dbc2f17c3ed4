"""Promises about bytes and digests, for whatever the input is."""
