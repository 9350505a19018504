"""WeCom (企业微信): an application that a company built for itself."""
