"""What is converted: safetensors and GGUF checkpoints, ONNX exports, and any model through optimum-intel."""
