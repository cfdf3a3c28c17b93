"""Models by name: local folders, and downloads from the Hugging Face hub."""
