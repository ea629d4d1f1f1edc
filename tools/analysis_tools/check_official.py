"""Has moved to dev/check_official.py."""
import moved  # noqa: F401
