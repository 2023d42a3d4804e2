"""Bundled photographs and spectra, degraded as they are read; nothing is downloaded."""
