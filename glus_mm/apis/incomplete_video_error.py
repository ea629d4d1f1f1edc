"""What is raised when a video breaks off."""

from glus_mm.apis.segmentation import Segmentation


class IncompleteVideoError(ValueError):
    """A video breaks off, or a frame of it cannot be used; what was segmented is kept.

    Args:
        message: what is wrong, and where.
        frame_idx: 0-based position of the first frame that cannot be used.
        result: see below.

    Attributes:
        frame_idx (int): likewise.
        result (Segmentation): what ``GLUSInferencer`` would have returned, as far as it goes:
            a mask is None where the frame was not reached.
    """

    def __init__(self, message: str, frame_idx: int, result: Segmentation) -> None:
        super().__init__(message)
        self.frame_idx = frame_idx
        self.result = result
