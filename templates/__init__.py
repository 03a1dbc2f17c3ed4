"""Data only: the parts, units and catalog that make up a user-data document."""
