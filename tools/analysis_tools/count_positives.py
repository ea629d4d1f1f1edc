"""Has moved to dev/count_positives.py."""
import moved  # noqa: F401
