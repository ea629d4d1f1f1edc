"""Has moved to projects/ablation_study/ablation.py."""
import moved  # noqa: F401
