"""The chat platform that we host ourselves."""
