"""Checks of a converted model: its logits against the checkpoint's, layer by layer or whole, and its tokenizer."""
