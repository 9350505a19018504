"""A tenant's own system: signed HTTP in and out (Standard Webhooks)."""
