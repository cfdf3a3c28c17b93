"""The loaded models, the queue in front of each, and the threads that run replies."""
