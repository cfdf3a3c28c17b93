"""A local server that OpenAI's clients talk to. Its packages are those of the extra [serve]."""
