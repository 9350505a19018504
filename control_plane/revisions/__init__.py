"""Configuration documents and where they stand."""
