"""What fine-tuning adds: which parameters move, what a teacher teaches, LoRA."""
