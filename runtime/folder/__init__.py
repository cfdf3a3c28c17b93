"""A model folder: the manifest, the IRs, and the cache of compiled models."""
