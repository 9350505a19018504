"""Feishu (飞书) and Lark: an application that a company built for itself, as a bot."""
