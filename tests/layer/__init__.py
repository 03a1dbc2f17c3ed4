"""Tests of the layer."""
