"""Has moved to dev/moving_shapes_reversal.py."""
import moved  # noqa: F401
