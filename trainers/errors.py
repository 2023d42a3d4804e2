"""What can go wrong in training, by name."""


class NonFiniteError(RuntimeError):
    """Training met NaN or infinity; the weights are still those of the step before."""
