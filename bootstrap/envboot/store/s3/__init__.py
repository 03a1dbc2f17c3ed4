"""Buckets of Amazon S3 and of services with its API."""
