"""Asking language models: two kinds of providers, one form of answer."""
