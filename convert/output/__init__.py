"""Output of a conversion: the IR, the tokenizer, and the scratch folder and journal through which they are written."""
