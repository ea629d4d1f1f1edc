"""What the servers expect, read with the data sets' own classes."""

import os
from os import PathLike

from glus_mm.datasets.base_ref_vos_dataset import BaseRefVOSDataset
from glus_mm.datasets.mevis import MeViSDataset
from glus_mm.datasets.ref_youtube_vos import RefYouTubeVOSDataset
from glus_mm.evaluation.submissions import SubmissionVideo
from glus_mm.utils.image import read_image


def open_submission_videos(format_name: str, root: str | PathLike) -> list[SubmissionVideo]:
    """List the videos, expressions and frames of a server's split.

    Args:
        format_name: ``'mevis'`` or ``'ref-youtube-vos'``.
        root: for MeViS the folder of the split ``valid``, with ``meta_expressions.json``; for
            Ref-YouTube-VOS the folder with ``meta_expressions/`` and ``valid/``, from whose videos
            those of ``test`` are taken away. Sizes are known where the images are there.

    Returns:
        What is expected.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: the annotation has not the layout it should have, or an image is broken.
    """
    if not os.path.isdir(root):
        raise FileNotFoundError(f'{root}: expected a folder with annotations, got no such folder')
    dataset: BaseRefVOSDataset
    if format_name == 'mevis':
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
            size = read_image(image).shape[:2]
        exp_ids = tuple(expression['exp_id'] for expression in video['expressions'])
        videos.append(SubmissionVideo(video['video_id'], exp_ids, video['frame_names'], size))
    return videos
