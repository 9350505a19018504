"""IM accounts of a tenant, and the platforms' callbacks."""
