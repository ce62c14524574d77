"""Errors that a user can mend.

Every message is one sentence or two: what is wrong, where (file, line, key), what to do. The command line prints
it without a traceback and exits with code 2.
"""

from __future__ import annotations


class CDSRError(Exception):
    """A mistake the user can mend; the base of all errors this package raises on purpose."""


class ConfigError(CDSRError):
    """A configuration key, value or combination that cannot be honoured."""


class WrongValueError(ConfigError):
    """A key whose value it cannot have.

    Attributes
    ----------
    key, expected : str
        The key; what its value must be, for the end of a sentence.
    value : object
        The one it has.
    """

    def __init__(self, key: str, value: object, expected: str) -> None:
        super().__init__(f"{key} is {value!r}; it must be {expected}.")
        self.key, self.value, self.expected = key, value, expected


class DataError(CDSRError):
    """A data file that is missing, broken or inconsistent."""


class FeatureError(CDSRError):
    """LLM features that are stale, mismatched or not finite."""


class CheckpointError(CDSRError):
    """A checkpoint that cannot be read, or belongs to another run."""
