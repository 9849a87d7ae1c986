"""radtune: medical images with text to a LoRA-tuned Qwen3-VL and an honest report."""
