"""Logits from the graph itself, where GenAI's log-probabilities do not suffice."""
