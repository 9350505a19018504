"""Web chat: the chat platform that the control plane hosts itself."""
