"""Outgoing messages: lanes, attempts, states."""
