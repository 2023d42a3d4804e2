"""`lowrank demo`: small networks trained and compared on what is bundled."""
