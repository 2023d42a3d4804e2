"""Networks with channel attention on images whose feature maps do not fit into memory: exact, band by band of rows."""
