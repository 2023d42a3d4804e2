"""A recipe on the hardware at hand: batches of a step, shards, averaged weights."""
