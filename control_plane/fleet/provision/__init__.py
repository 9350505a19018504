"""Where agents run: one interface, three implementations."""
