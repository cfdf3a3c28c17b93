"""GGUF files of GLM-4, as the tools of llama.cpp write them."""
