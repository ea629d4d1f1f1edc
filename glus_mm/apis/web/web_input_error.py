"""What a user of the web demo did that cannot be done."""


class WebInputError(ValueError):
    """A message for the user's eyes: it holds no path of the server.

    Args:
        message: says what was expected and what came.
    """
