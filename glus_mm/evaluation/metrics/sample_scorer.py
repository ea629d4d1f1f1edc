"""What scores the predictions of data samples, and writes them on the way."""

from abc import ABC, abstractmethod
from pathlib import Path

from glus_mm.evaluation.protocols import Track


class SampleScorer(ABC):
    """Scores all predictions of one video.

    Args:
        output_dir: folder for the masks; None = they are not written.
    """

    def __init__(self, output_dir: Path | None) -> None:
        self.output_dir = output_dir

    @abstractmethod
    def score(self, sample: dict) -> list[Track]:
        """Score the predictions of a video and write them, one frame at a time.

        Raises:
            ValueError: masks are missing or of another size.
            OSError: a mask cannot be written.
        """

    @abstractmethod
    def write(self, sample: dict) -> None:
        """Only write the predictions of a video.

        Args:
            sample: a checked sample; it needs no ground truth.

        Raises:
            ValueError: masks are missing or of another size.
            OSError: a mask cannot be written.
        """
