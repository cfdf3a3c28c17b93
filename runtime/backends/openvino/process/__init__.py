"""An engine in a process of its own: its client, its worker, and the backend that speaks to it."""
