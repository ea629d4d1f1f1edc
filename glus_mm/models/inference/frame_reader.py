"""Where the readers of :mod:`glus_mm.video` were before."""

from glus_mm.video import (  # noqa: F401
    IMAGE_SUFFIXES,
    ArrayReader,
    FrameReader,
    ImageFolderReader,
    SpooledReader,
    VideoFileReader,
    open_reader,
)
