"""Signed events in: verified, group-committed, dispatched by type."""
