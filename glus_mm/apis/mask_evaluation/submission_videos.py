"""What the servers expect, read with the data sets' own classes."""

import os
from os import PathLike
from pathlib import Path

from glus_mm.datasets.base_ref_vos_dataset import BaseRefVOSDataset
from glus_mm.datasets.mevis import MeViSDataset
from glus_mm.datasets.ref_youtube_vos import RefYouTubeVOSDataset
from glus_mm.evaluation.submissions import SubmissionVideo
from glus_mm.utils.image import read_image


def open_submission_videos(format_name: str, root: str | PathLike) -> list[SubmissionVideo]:
    """List the videos, expressions and frames of a server's split.

    Args:
        format_name: one of :data:`glus_mm.evaluation.submissions.SUBMISSION_FORMATS`.
        root: for MeViS and MeViSv2 the folder of the split ``valid``, with
            ``meta_expressions.json``; for MOSEv2 that with ``JPEGImages/``; for Ref-YouTube-VOS
            the folder with ``meta_expressions/`` and ``valid/``, from whose videos those of
            ``test`` are taken away. Sizes are known where the images are there.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: the annotation has not the layout it should have, or an image is broken.
    """
    if not os.path.isdir(root):
        raise FileNotFoundError(f'{root}: expected a folder with annotations, got no such folder')
    if format_name == 'mose-v2':
        return _mose_videos(Path(root) / 'JPEGImages')
    dataset: BaseRefVOSDataset
    if format_name in ('mevis', 'mevis-v2'):
        dataset = MeViSDataset(data_root=str(root), test_mode=True, serialize_data=False)
    else:
        dataset = RefYouTubeVOSDataset(
            data_root=str(root), test_mode=True, serialize_data=False,
            ann_file='meta_expressions/valid/meta_expressions.json',
            exclude_ann_file='meta_expressions/test/meta_expressions.json',
            data_prefix=dict(img='valid/JPEGImages', mask='valid/Annotations'))
    videos = []
    for index in range(len(dataset)):
        video = dataset.get_data_info(index)
        size, image = video['ori_shape'], video['img_paths'][0]
        if size is None and os.path.isfile(image):
            size = read_image(image, upright=False).shape[:2]
        exp_ids = tuple(expression['exp_id'] for expression in video['expressions'])
        videos.append(SubmissionVideo(video['video_id'], exp_ids, video['frame_names'], size))
    return videos


def _mose_videos(images: Path) -> list[SubmissionVideo]:
    """The videos of MOSE, which are folders of images."""
    if not images.is_dir():
        raise FileNotFoundError(f'{images}: expected the folders of the videos, got no such folder')
    videos = []
    for folder in sorted(path for path in images.iterdir() if path.is_dir()):
        frames = sorted(path.stem for path in folder.glob('*.jpg'))
        if not frames:
            raise ValueError(f'{folder}: expected the frames of the video, got no .jpg')
        size = read_image(str(folder / f'{frames[0]}.jpg')).shape[:2]
        videos.append(SubmissionVideo(folder.name, ('', ), frames, size))
    if not videos:
        raise ValueError(f'{images}: expected the folder of at least one video, got none')
    return videos
