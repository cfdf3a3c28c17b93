"""Models by name: found on this machine, or downloaded from the hub."""
