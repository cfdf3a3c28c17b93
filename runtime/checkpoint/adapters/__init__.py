"""LoRA adapters as PEFT saves them, and their sum with the weights of a checkpoint."""
