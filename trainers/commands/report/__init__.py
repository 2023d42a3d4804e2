"""`lowrank report`: runs and results as one page to look at, written to a file or shown by a server."""
