"""Offline bundles: all that a machine without a network needs to serve a model."""
