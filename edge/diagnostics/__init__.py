"""What this machine and this installation have: the data we keep, and the report for a bug."""
