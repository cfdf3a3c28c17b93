"""Weight compression: NNCF, measured by calibration texts, and GGUF blocks that are kept as they are."""
