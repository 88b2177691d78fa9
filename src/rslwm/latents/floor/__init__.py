"""Spaces that know nothing: what every other space must beat."""
