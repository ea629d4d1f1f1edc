"""Has moved to dev/probe_layers.py."""
import moved  # noqa: F401
