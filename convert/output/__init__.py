"""What a conversion writes: the IR, the tokenizer, and the scratch folder and journal they are written through."""
