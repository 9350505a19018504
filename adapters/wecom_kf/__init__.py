"""WeCom customer service (微信客服): people on WeChat write to an account of a company."""
