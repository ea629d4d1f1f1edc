"""Has moved to dev/random_7b.py."""
import moved  # noqa: F401
