"""What hosts do not say of their attention: the layout of tokens, biases and masks, from what is added to products."""
