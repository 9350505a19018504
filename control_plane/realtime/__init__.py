"""What a tenant's people see as it happens: the stream over sockets, and who is looking."""
