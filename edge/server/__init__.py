"""A local server that OpenAI's clients talk to. What it needs comes with `pip install "glm4-edge[serve]"`."""
