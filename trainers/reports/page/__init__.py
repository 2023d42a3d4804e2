"""A report as one page of HTML that stands alone: what it is made of, and how it is written."""
