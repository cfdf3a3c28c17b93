"""The machine's devices, what a model needs of them, and which one runs it."""
