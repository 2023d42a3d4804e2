"""The one exception for data on disk that cannot be used."""


class DataError(ValueError):
    """Says which file or folder cannot be used, which argument named it and what to do about it."""
