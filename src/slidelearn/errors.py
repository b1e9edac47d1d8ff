"""The errors that slidelearn raises for a user's mistake; each message is one line."""

__all__ = ["ConfigError", "DataError", "ModelError", "SlideError"]


class SlideError(ValueError):
    """Base of every error that a user can mend; the command line prints it as one line."""


class DataError(SlideError):
    """A dataset is malformed; the message names the file and the line, or the row."""


class ConfigError(SlideError):
    """A setting is out of its range; the message names the setting, the value and the range."""


class ModelError(SlideError):
    """A model folder cannot be read; the message names the file and what is wrong with it."""
