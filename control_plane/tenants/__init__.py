"""Companies that rent a bot, and their people."""
