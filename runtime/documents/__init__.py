"""Documents for a chat: readers, which run in a process with limits, search, and the layout of a message."""
