"""Weight compression: by NNCF, with or without calibration texts, and of GGUF blocks that are kept unchanged."""
