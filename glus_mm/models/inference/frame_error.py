"""What is raised when a frame of a video cannot be used."""


class FrameError(ValueError):
    """A frame cannot be decoded or has another size than the frames before it.

    Args:
        message: what is wrong with it.
        frame_idx: its 0-based position.

    Attributes:
        frame_idx (int): likewise.
    """

    def __init__(self, message: str, frame_idx: int) -> None:
        super().__init__(message)
        self.frame_idx = frame_idx


class MissingFrameError(FrameError, FileNotFoundError):
    """The file of a frame is gone."""
