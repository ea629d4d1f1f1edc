"""Expressions and their true masks, read with the data sets' own classes, without any image."""

import os
from os import PathLike
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from glus_mm.datasets.annotation_fields import get_field
from glus_mm.datasets.base_ref_vos_dataset import BaseRefVOSDataset
from glus_mm.datasets.groundmore import GroundMoReDataset
from glus_mm.datasets.mevis import LongRVOSDataset, MeViSDataset, RefSAVDataset, ReVOSDataset
from glus_mm.datasets.reason_vos import ReasonVOSDataset
from glus_mm.datasets.ref_davis import RefDAVISDataset
from glus_mm.datasets.ref_youtube_vos import RefYouTubeVOSDataset
from glus_mm.evaluation.submissions import SubmissionVideo
from glus_mm.utils.image import read_image
from glus_mm.utils.json_file import read_json_object
from glus_mm.utils.masks import check_rle, check_size, merge_rles

FOREGROUND_FILE = 'mask_dict_foreground.json'


class AnnotatedExpressions:
    """The expressions of a split with their masks.

    Args:
        dataset: the data set, with masks.
        foreground_file: ReVOS's file with all objects of each video together; without one, the
            objects of the video's expressions are united.

    Attributes:
        videos (list[dict]): as the data set has them.
        items (list[tuple[dict, dict]]): each expression behind its video.

    Raises:
        FileNotFoundError: the data set has no masks.
        ValueError: the file with the foreground is not as it should be.
    """

    def __init__(self, dataset: BaseRefVOSDataset, foreground_file: Path | None = None) -> None:
        if dataset.masks is None:
            raise FileNotFoundError(f'{dataset.ann_file}: expected the true masks at '
                                    f'{dataset.data_prefix["mask"]}, got nothing there')
        self.masks = dataset.masks
        self.dataset = dataset.metainfo['dataset']
        self.videos = [dataset.get_data_info(index) for index in range(len(dataset))]
        self.items = [(video, expression) for video in self.videos
                      for expression in video['expressions']]
        self._sizes: dict[str, tuple[int, int] | None] = {}
        self._foreground: dict[str, list] = {}
        self._foreground_file = foreground_file
        if foreground_file is not None:
            self._foreground = _read_foreground(foreground_file, self.videos)

    def size(self, video: dict) -> tuple[int, int] | None:
        """Size of a video's masks.

        Returns:
            ``(H, W)``, or None where neither the annotation nor a mask states it.
        """
        video_id = video['video_id']
        if video_id not in self._sizes:
            stated = video['ori_shape']
            found = (self.masks.size(expression) for expression in video['expressions'])
            self._sizes[video_id] = stated or next((size for size in found if size), None)
        return self._sizes[video_id]

    def target(self, video: dict, expression: dict, frame_idx: int,
               size: tuple[int, int]) -> np.ndarray:
        """Decode the true mask of an expression on a frame.

        Args:
            video: one of ``videos``.
            expression: one of its expressions.
            frame_idx: 0-based position of the frame.
            size: ``(H, W)``.

        Returns:
            uint8 (H, W): how many of the expression's objects cover the pixel.

        Raises:
            FileNotFoundError: a file with a mask is missing.
            ValueError: a mask has another size, or is corrupt.
        """
        masks = [coco_mask.decode(rle) for rle in self.masks.rles(expression, frame_idx, size)]
        if not masks:
            return np.zeros(size, dtype=np.uint8)
        total = masks[0]
        for mask in masks[1:]:
            total += mask
        # Column by column, as RLEs are; predictions are stored row by row.
        return cv2.transpose(total.T)

    def foreground(self, video: dict, frame_idx: int, size: tuple[int, int]) -> int:
        """Area of all annotated objects of a video together on a frame.

        Args:
            video: one of ``videos``.
            frame_idx: 0-based position of the frame.
            size: ``(H, W)``.

        Raises:
            ValueError: a mask has another size, or is corrupt.
        """
        if self._foreground_file is None:
            rles = [rle for expression in video['expressions']
                    for rle in self.masks.rles(expression, frame_idx, size)]
        else:
            rle = self._foreground[video['video_id']][frame_idx]
            rles = [] if rle is None else [rle]
            for rle in rles:
                check_size(rle, size, f'{self._foreground_file}: video {video["video_id"]!r}, '
                                      f'frame {frame_idx}')
        return int(coco_mask.area(merge_rles(rles, size))) if rles else 0


def open_expressions(protocol: str, root: str | PathLike) -> AnnotatedExpressions:
    """Open the annotation that a protocol is evaluated against.

    Args:
        protocol: name of a protocol for expressions.
        root: the folder with the annotation. For Ref-DAVIS17 also the one that is trained and
            tested on, from which the split ``valid`` is taken.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: the files have not the layout they should have.
    """
    if not os.path.isdir(root):
        raise FileNotFoundError(f'{root}: expected a folder with annotations, got no such folder')
    kind = _DATASETS[protocol]
    options: dict[str, Any] = {}
    if kind is ReVOSDataset:
        options = dict(ann_file='meta_expressions_valid_.json')
    elif kind is RefDAVISDataset:
        # Expressions and masks are side by side, or in folders of splits.
        options = dict(ann_file='meta_expressions.json', data_prefix=dict(mask='mask_dict.json'))
        nested = 'meta_expressions/valid/meta_expressions.json'
        if not Path(root, 'meta_expressions.json').is_file() and Path(root, nested).is_file():
            masks = 'valid/mask_dict.json'
            options = dict(ann_file=nested, data_prefix=dict(
                mask=masks if Path(root, masks).is_file() else 'valid/Annotations'))
    foreground = Path(root) / FOREGROUND_FILE
    # Without data-loading workers there is nothing to serialise for.
    return AnnotatedExpressions(
        kind(data_root=str(root), test_mode=True, serialize_data=False, **options),
        foreground if kind is ReVOSDataset and foreground.exists() else None)


class _FoldersOfReasonVOS(ReasonVOSDataset):
    """ReasonVOS whose annotation need not name the frames: they are those of the masks' folders."""

    def _read_videos(self, path: str) -> dict:
        videos = super()._read_videos(path)
        for video_id, video in videos.items():
            if isinstance(video, dict) and 'frames' not in video:
                video['frames'] = self._frames(video_id, video, f'{path}: video {video_id!r}')
        return videos

    def _frames(self, video_id: str, video: dict, where: str) -> list[str]:
        """Names of the frames, which must be the same in all folders of the video."""
        fields = dict(self.parse_video(video, where), video_id=video_id, frame_names=())
        self.masks = self.open_masks({})
        first, frames = None, []
        for folder in [os.path.join(self.masks.path, anno_id)
                       for exp_id, entry in self.expression_items(video, where)
                       for anno_id in self.parse_target(
                           exp_id, entry, fields, f'{where}, expression {exp_id!r}')['anno_ids']]:
            names = sorted(name for name in os.listdir(folder) if not name.startswith('.'))
            found = [name.removesuffix('.png') for name in names if name.endswith('.png')]
            if len(found) != len(names):
                wrong = next(name for name in names if not name.endswith('.png'))
                raise ValueError(f'{folder}: expected only PNG files with masks, got {wrong!r}')
            if first is None:
                first, frames = folder, found
            elif found != frames:
                different = sorted(set(found) ^ set(frames))
                raise ValueError(f'{folder}: expected masks of the {len(frames)} frames in {first},'
                                 f' got {len(found)}; {different[0]!r} is only in one of them')
        return frames


_DATASETS: dict[str, type[BaseRefVOSDataset]] = {
    'groundmore': GroundMoReDataset, 'long-rvos': LongRVOSDataset, 'mevis': MeViSDataset,
    'reason-vos': _FoldersOfReasonVOS, 'ref-davis-glus': RefDAVISDataset,
    'ref-sav': RefSAVDataset, 'revos': ReVOSDataset}
"""Data sets by protocol."""


def _read_foreground(path: Path, videos: list[dict]) -> dict[str, list]:
    """Read and check ``mask_dict_foreground.json``: by video, an RLE or None per frame."""
    content = read_json_object(path)
    result = {}
    for video in videos:
        where = f'{path}: video {video["video_id"]!r}'
        if video['video_id'] not in content:
            raise ValueError(f'{where}: expected the masks of its foreground, got no such video')
        rles = get_field(content[video['video_id']], 'masks_rle', list, where)
        if len(rles) != len(video['frame_names']):
            raise ValueError(f"{where}, key 'masks_rle': expected one entry for each of the "
                             f'{len(video["frame_names"])} frames, got {len(rles)}')
        for frame_idx, rle in enumerate(rles):
            if rle is not None:
                check_rle(rle, where, frame_idx)
        result[video['video_id']] = rles
    return result


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
    videos = []
    if format_name == 'mose-v2':  # whose videos are folders of images
        images = Path(root) / 'JPEGImages'
        if not images.is_dir():
            raise FileNotFoundError(f'{images}: expected the folders of the videos, got no such '
                                    'folder')
        for folder in sorted(path for path in images.iterdir() if path.is_dir()):
            frames = sorted(path.stem for path in folder.glob('*.jpg'))
            if not frames:
                raise ValueError(f'{folder}: expected the frames of the video, got no .jpg')
            size = read_image(str(folder / f'{frames[0]}.jpg')).shape[:2]
            videos.append(SubmissionVideo(folder.name, ('', ), frames, size))
        if not videos:
            raise ValueError(f'{images}: expected the folder of at least one video, got none')
        return videos
    dataset: BaseRefVOSDataset
    if format_name in ('mevis', 'mevis-v2'):
        dataset = MeViSDataset(data_root=str(root), test_mode=True, serialize_data=False)
    else:
        dataset = RefYouTubeVOSDataset(
            data_root=str(root), test_mode=True, serialize_data=False,
            ann_file='meta_expressions/valid/meta_expressions.json',
            exclude_ann_file='meta_expressions/test/meta_expressions.json',
            data_prefix=dict(img='valid/JPEGImages', mask='valid/Annotations'))
    for index in range(len(dataset)):
        video = dataset.get_data_info(index)
        size, image = video['ori_shape'], video['img_paths'][0]
        if size is None and os.path.isfile(image):
            size = read_image(image, upright=False).shape[:2]
        exp_ids = tuple(expression['exp_id'] for expression in video['expressions'])
        videos.append(SubmissionVideo(video['video_id'], exp_ids, video['frame_names'], size))
    return videos
