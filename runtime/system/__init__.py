"""The operating system: files, network, processes, memory."""
