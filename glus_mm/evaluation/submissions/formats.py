"""What the servers of the field want to be uploaded."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SubmissionFormat:
    """A zip file of masks, ``<prefix><video>/<expression>/<frame>.png``, mode L, 0 and 255.

    Attributes:
        prefix: folder at the root of the zip, with a slash, or nothing.
        num_videos: number of videos that the server's split has.
        labels: the masks are label maps, ``<prefix><video>/<frame>.png``, mode P or L, and there
            are no expressions: their only id is ``''``.
    """

    prefix: str
    num_videos: int
    labels: bool = False

    def name(self, video_id: str, exp_id: str, frame: str) -> str:
        """Name of a mask in the zip.

        Args:
            video_id: the video.
            exp_id: the expression.
            frame: name of the frame.
        """
        folder = video_id if self.labels else f'{video_id}/{exp_id}'
        return f'{self.prefix}{folder}/{frame}.png'


SUBMISSION_FORMATS = {
    'mose-v2': SubmissionFormat('', 433, labels=True),
    'mevis-v2': SubmissionFormat('', 140),
    'mevis': SubmissionFormat('', 140),
    'ref-youtube-vos': SubmissionFormat('Annotations/', 202),
}
"""The formats, by name: the valid splits of MeViS, MeViSv2 (taken to be that of MeViS) and MOSEv2;
valid minus test of Ref-YouTube-VOS."""
