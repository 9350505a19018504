"""QQ (QQ 开放平台): an official bot, in direct talks, groups and guild channels."""
