"""A user's slip; apart from `structures`, which has it too, so that commands that compute nothing start without torch."""


class UserError(ValueError):
    """A user's slip, told in one line that names the thing and the remedy; the doors print it without a stack trace."""
