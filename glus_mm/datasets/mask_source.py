"""Where the masks of a data set come from."""

from abc import ABCMeta, abstractmethod
from collections.abc import Iterator


class MaskSource(metaclass=ABCMeta):
    """Masks of all expressions of a data set, read when they are asked for.

    Args:
        path: the file or folder with the masks, for error messages.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    @abstractmethod
    def rles(self, expression: dict, frame_idx: int, size: tuple[int, int]) -> list[dict]:
        """Masks of one expression's objects on one frame.

        Args:
            expression: an entry of ``expressions`` as ``load_data_list`` makes it.
            frame_idx: 0-based position in the video.
            size: ``(H, W)`` that the masks must have: the size of the frame.

        Returns:
            COCO RLEs of the objects that are visible there; empty where none is.

        Raises:
            FileNotFoundError: a file with a mask is missing.
            ValueError: a mask has another size or is corrupt, or there is none for that
                object or frame.
        """

    def size(self, expression: dict) -> tuple[int, int] | None:
        """Size of an expression's masks, for those who have no frames at hand.

        Args:
            expression: an entry of ``expressions`` as ``load_data_list`` makes it.

        Returns:
            ``(H, W)``, or None where no mask says so.

        Raises:
            FileNotFoundError: a file with a mask is missing.
            ValueError: a file with a mask cannot be read.
        """
        return None

    def files(self, expression: dict) -> Iterator[str]:
        """Files that the masks of an expression are read from.

        Args:
            expression: an entry of ``expressions`` as ``load_data_list`` makes it.
        """
        yield self.path

    def where(self, expression: dict, anno_id: str, frame_idx: int) -> str:
        """Name a mask for an error message: source, video, expression, annotation and frame.

        Args:
            expression: of the data list, see ``BaseRefVOSDataset.load_data_list``.
            anno_id: the annotation.
            frame_idx: 0-based position in the video.
        """
        return (f'{self.path}: video {expression["video_id"]!r}, expression '
                f'{expression["exp_id"]!r}, anno {anno_id!r}, frame {frame_idx}')

    def __deepcopy__(self, memo: dict) -> 'MaskSource':
        """Return the source itself: it never changes, and subsets of a data set share it."""
        return self
