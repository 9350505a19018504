"""What members know of contacts and tell each other: tags, notes, remarks, canned replies."""
