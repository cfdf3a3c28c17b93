"""Sources of a conversion: safetensors and GGUF checkpoints, ONNX exports, and exports by optimum-intel."""
