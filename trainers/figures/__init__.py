"""Figures: drawn in one style, written as PDF and PNG with their data as CSV beside them."""
