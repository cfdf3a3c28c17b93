"""Engines on PyTorch: plain, and optimized by IPEX."""
