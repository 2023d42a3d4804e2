"""Metrics that ask networks which were trained on photographs."""
