"""The one error that a user of the command line sees without a traceback."""


class UserError(ValueError):
    """Input that cannot be used, in one line: what was given, what is allowed, what to do.

    The command line prints the message and exits with status 2; a caller of the library sees a
    ValueError.
    """
