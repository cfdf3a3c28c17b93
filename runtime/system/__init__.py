"""The operating system: files, network, processes, memory, and our effects on the process."""
