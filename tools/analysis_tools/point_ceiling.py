"""Has moved to dev/point_ceiling.py."""
import moved  # noqa: F401
