"""A file without an entry that is asked for."""


class MissingEntryError(ValueError):
    """The file is sound, but has no usable entry for a video, an expression or a frame."""
