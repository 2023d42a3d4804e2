"""What is bundled, degraded as it is read; nothing is downloaded."""
