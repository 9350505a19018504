"""One chat platform each: bytes to neutral messages and back. Knows nothing of tenants."""
