"""`lowrank analyze`: costs, spectra and starts of low-rank attention."""
