"""A recipe found by name, parsed, and run by Lightning."""
