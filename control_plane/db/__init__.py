"""The database: engine, tenant scope, leases, and the server that is started when none is given."""
