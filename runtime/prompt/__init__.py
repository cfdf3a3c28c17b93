"""Messages and tools become a prompt: chat templates and the families that explain them."""
