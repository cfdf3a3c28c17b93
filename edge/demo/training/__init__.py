"""The training code of the embedded checkpoint: in the repository, but not installed."""
