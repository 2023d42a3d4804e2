"""The one exception for data on disk that cannot be used."""


class DataError(ValueError):
    """Says which file or folder cannot be used, which argument named it and what to do about it.

    Args:
        message: what to tell the user.
    """

    def __init__(self, message: str) -> None:
        # torch re-raises a dataloader worker's error with the worker's traceback, as text, before its message.
        super().__init__(message.rpartition("DataError: ")[2].strip())
