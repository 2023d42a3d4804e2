"""Common ground of both attention packages: checkpoint files, families of networks, demands on images, precision."""
