"""Generated text becomes events: reasoning, text, tool calls."""
