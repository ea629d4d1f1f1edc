"""Has moved to dev/speed_levels.py."""
import moved  # noqa: F401
