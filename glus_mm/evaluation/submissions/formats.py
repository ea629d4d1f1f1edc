"""What the servers of the field want to be uploaded."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SubmissionFormat:
    """A zip file of masks, ``<prefix><video>/<expression>/<frame>.png``, mode L, 0 and 255.

    Attributes:
        prefix: folder at the root of the zip, with a slash, or nothing.
        num_videos: number of videos that the server's split has.
    """

    prefix: str
    num_videos: int

    def name(self, video_id: str, exp_id: str, frame: str) -> str:
        """Name of a mask in the zip.

        Args:
            video_id: the video.
            exp_id: the expression.
            frame: name of the frame.
        """
        return f'{self.prefix}{video_id}/{exp_id}/{frame}.png'


SUBMISSION_FORMATS = {
    'mevis': SubmissionFormat('', 140),
    'ref-youtube-vos': SubmissionFormat('Annotations/', 202),
}
"""The formats, by name: the valid split of MeViS; valid minus test of Ref-YouTube-VOS."""
