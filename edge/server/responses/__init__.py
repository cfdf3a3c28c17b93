"""OpenAI's Responses API with its memory: stored responses, conversations, and their items."""
