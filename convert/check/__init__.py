"""Checks of a converted model: layer by layer against numpy, and against the checkpoint's own logits."""
