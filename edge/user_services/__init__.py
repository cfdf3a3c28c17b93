"""User services of systems other than Linux: their configuration, and how their state is read."""
