"""`lowrank reproduce`: the papers' tables and figures, published beside measured."""
