"""A checkpoint as its files describe it: tensors of four formats, config, tokenizer."""
