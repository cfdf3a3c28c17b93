"""User services of each system: their configuration, and how their state is read."""
