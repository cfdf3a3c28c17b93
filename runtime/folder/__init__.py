"""A model folder: its manifest, its IR, the check of its hashes, and the cache of compiled models."""
