"""Has moved to dev/benchmark_j_and_f.py."""
import moved  # noqa: F401
