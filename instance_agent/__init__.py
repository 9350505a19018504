"""One tenant's bot: hosts adapters, reports what they hear, sends what it is told."""
