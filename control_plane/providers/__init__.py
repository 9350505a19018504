"""Who runs the models that a tenant's bots ask."""
