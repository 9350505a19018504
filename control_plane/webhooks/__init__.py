"""Outgoing webhooks: a tenant's own systems are told what happens, signed, in order, and again.

`events` says what can be told, `service` keeps the endpoints, `worker` follows the stream and
calls them, `attempt` makes one call, `schedule` says what follows from its outcome.
"""
