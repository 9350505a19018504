"""Many tenants: who they are, what should run, what was said."""
