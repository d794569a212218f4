"""The one error that a user of the command line sees without a traceback."""


class UserError(ValueError):
    """Input that cannot be used. One line: what was given, what is allowed or was found, what to do.

    The command line prints the message and exits with status 2; a caller of the library sees a
    ValueError.
    """
