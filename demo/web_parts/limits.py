"""How much one user, and all of them together, may ask of a web demo."""

from dataclasses import dataclass, fields


class WebInputError(ValueError):
    """What a user did that cannot be done; the message is for their eyes and has no path."""


@dataclass(frozen=True)
class WebLimits:
    """Bounds of a web demo; all are positive and finite.

    Args:
        max_upload_mb: size of a file, in units of 2**20 bytes.
        max_seconds: length of a video.
        max_frames: frames of a video that are segmented, and a tenth of those that it may have.
        max_megapixels: height times width of a frame, in millions; larger ones are scaled down.
        max_texts: expressions of a run.
        max_tokens: of an expression, in the model's own tokens: what a long one costs.
        max_work_seconds: time that the model may work on a run.
        max_upload_seconds: time that an upload may take.
        max_idle_seconds: time that a connection may stay open without a request, or an upload
            without a byte.
        max_open_videos: videos that are kept open for clicks; the one that was longest not
            clicked is closed for a new one.
        max_waiting: runs that wait for their turn; further ones are refused.
        max_store_mb: all files of all users, in units of 2**20 bytes; the oldest go first.
        max_store_minutes: how long a file is kept.

    Raises:
        ValueError: a number is not positive or not finite.
    """

    max_upload_mb: float = 200
    max_seconds: float = 60
    max_frames: int = 600
    max_megapixels: float = 2.1
    max_texts: int = 8
    max_tokens: int = 150
    max_work_seconds: float = 300
    max_upload_seconds: float = 600
    max_idle_seconds: float = 20
    max_open_videos: int = 8
    max_waiting: int = 16
    max_store_mb: float = 2000
    max_store_minutes: float = 60

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 < value < float('inf'):
                raise ValueError(f'expected a finite {field.name} above 0, got {value!r}')

    @property
    def max_upload_bytes(self) -> int:
        """Size of a file."""
        return int(self.max_upload_mb * 2**20)
