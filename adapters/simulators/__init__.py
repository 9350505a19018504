"""Stand-ins of chat platforms for tests: real HTTP on a real socket, no code of the adapters."""
