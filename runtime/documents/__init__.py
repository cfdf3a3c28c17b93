"""Documents for a chat: readers of their formats, which run in a process with limits, search, and the layout of a
message with documents."""
