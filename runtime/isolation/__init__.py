"""A Python process for code that a model wrote: no network, no files but its own, bounded memory, disk and time."""
