"""What the bot does between a message and its answer."""
