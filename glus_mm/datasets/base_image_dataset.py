"""The base of data sets of images."""

import os.path as osp
from abc import abstractmethod
from collections.abc import Iterable

from glus_mm.datasets.annotation_fields import parse_text
from glus_mm.datasets.base_ref_vos_dataset import BaseRefVOSDataset


class BaseImageDataset(BaseRefVOSDataset):
    """Images as videos of one frame, so that they are mixed with videos.

    A training sample repeats the frame: all context and query frames of
    ``SampleContextQueryFrames`` are the image, and each turn asks about it again. The number of
    frames has to be that of the other videos in the batch, and the losses are finite; the image is
    read once, and each encoder sees it once, so that a sample costs the tokens of a video in the
    LLM, and its query frames in the mask decoder.

    When testing, the image is one frame. J of ``RefVOSMetric`` is then the IoU of an expression,
    and its mean what LISA calls gIoU.

    For the arguments see :class:`BaseRefVOSDataset`, whose videos are images here, so that
    ``exclude_ann_file`` and ``min_frames`` are of no use. ``metainfo`` has the data set's name in
    the data samples, which several files of one layout should not share.

    Raises:
        FileNotFoundError: a file is missing; images are looked for when an item is read.
        ValueError: an argument is out of its range, or the files are not as they should be; the
            message names file and entry.
    """

    @abstractmethod
    def read_images(self) -> Iterable[dict]:
        """Read the annotation, and set ``self.masks``.

        Returns:
            For each image ``image_id``, ``path``, ``shape`` (``(H, W)`` or None), ``where`` (file
            and entry, for errors) and ``expressions``, as ``load_data_list`` returns them but for
            ``video_id`` and ``kind``.
        """

    def load_data_list(self) -> list[dict]:
        """Parse the annotation; see the base class.

        Raises:
            ValueError: there is no image.
        """
        videos = [dict(
            dataset=self._metainfo['dataset'],
            video_id=image['image_id'],
            entry=image['where'],
            frame_names=(osp.splitext(osp.basename(image['path']))[0], ),
            img_paths=[image['path']],
            ori_shape=image['shape'],
            expressions=[dict(item, video_id=image['image_id'], kind=None)
                         for item in image['expressions']]) for image in self.read_images()]
        if not videos:
            raise ValueError(f'{self.ann_file}: expected at least one image with an expression, '
                             'got none')
        return videos

    def text_of(self, text: object, where: str) -> str:
        """Return the text of an expression if it can be one, else raise a ``ValueError``."""
        return parse_text({self.TEXT_KEY: text}, self.TEXT_KEY, where)
