"""What can go wrong in training, by name."""


class NonFiniteError(RuntimeError):
    """Training met NaN or infinity; the weights are still those of the step before."""


class Stopped(SystemExit):
    """Training was told to end by a signal, and has saved where it was.

    Args:
        message: what happened.
        state: as `lowrank runs` calls it.
        status: the process's exit status.
    """

    def __init__(self, message: str, state: str, status: int) -> None:
        super().__init__(status)
        self.status = status
        self.message = message
        self.state = state
