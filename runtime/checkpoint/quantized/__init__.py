"""Checkpoints that the hub has quantised already: GPTQ, AWQ, compressed-tensors, FP8 and bitsandbytes."""
