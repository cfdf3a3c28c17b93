"""A checkpoint: its config, tokenizer and tensors, whatever its format."""
