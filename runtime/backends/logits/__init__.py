"""Sampling and log-probabilities in numpy, for engines that expose their logits."""
