"""Buckets that are directories of this machine, with a server of their own."""
