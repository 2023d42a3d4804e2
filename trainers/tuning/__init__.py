"""The parts of fine-tuning: the choice of parameters, losses against a teacher, LoRA."""
