"""What to tell people of an error."""


def user_error_text(error: Exception) -> str:
    """The message of an error as it was written; a KeyError would show it in quotes."""
    return str(error.args[0] if isinstance(error, KeyError) and error.args else error)
