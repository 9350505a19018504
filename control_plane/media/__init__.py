"""Pictures, voices and files: reserved, uploaded, handed out through signed links, removed."""
