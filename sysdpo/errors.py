"""The one error a user is meant to read."""


class UserError(ValueError):
    """Bad configuration, data or model. The message is one sentence: the setting, its value, what would be right.

    The command line prints it and exits with code 2, without a traceback.
    """
