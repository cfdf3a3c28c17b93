"""A local server for OpenAI's clients. It needs the packages of the extra [serve]."""
