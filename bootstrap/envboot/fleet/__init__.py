"""Launches: what starts their instances, watches them, and brings changes to them."""
