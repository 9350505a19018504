"""One tenant's bot: what should run, and the agent that does."""
