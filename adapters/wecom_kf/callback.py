"""Check a callback: customer service calls a company as its applications are called; pure."""

from adapters.wecom.callback import RECEIVED, unseal, verify

__all__ = ["RECEIVED", "unseal", "verify"]
