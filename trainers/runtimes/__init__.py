"""Networks outside this package: written as graphs for other runtimes, checked there, and run by them."""
