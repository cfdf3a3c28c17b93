"""How the demo's checkpoint was made. Kept in the repository, not installed."""
