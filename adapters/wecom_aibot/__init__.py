"""WeCom's AI bot (企业微信智能机器人): answers that appear while they are made."""
