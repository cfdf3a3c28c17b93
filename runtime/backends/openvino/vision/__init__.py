"""Vision models on OpenVINO GenAI: prompts as embeddings, and the image tower."""
