"""Releases of the agents, brought out wave by wave and taken back when they do harm."""
