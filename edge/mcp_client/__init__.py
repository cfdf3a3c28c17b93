"""The tools of MCP servers for a chat."""
