"""What both attention packages stand on: checkpoint files, families of networks, precision; knows no attention."""
