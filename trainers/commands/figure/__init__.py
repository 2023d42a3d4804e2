"""`lowrank figure`: figures of the papers' kinds, of any network and data."""
