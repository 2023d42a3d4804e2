"""The long campaign: thousands of hostile inputs, each in a process of its own, and a table of what came of them."""
