"""Contacts, conversations, messages, and who owns a conversation."""
