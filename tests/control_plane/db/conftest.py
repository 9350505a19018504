"""Fixtures of the schema's tests."""

from tests.control_plane.db.planting import planted, tables

__all__ = ["planted", "tables"]
