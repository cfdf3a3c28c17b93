"""Vision models: graphs of the image towers, and of a decoder that reads embeddings."""
