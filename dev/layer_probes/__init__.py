"""Parts of ``probe_layers.py`` and ``point_ceiling.py``."""
