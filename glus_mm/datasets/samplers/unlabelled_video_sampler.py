"""A test sampler that leaves out what an earlier run has finished."""

import os.path as osp
from collections.abc import Iterator

from mmengine.dist import get_dist_info
from mmengine.logging import print_log
from torch.utils.data import Sampler

from glus_mm.datasets.base_ref_vos_dataset import BaseRefVOSDataset
from glus_mm.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class UnlabelledVideoSampler(Sampler):
    """Yield, in their order, the videos without a part in ``<out_file>.parts``.

    Each process has its share; none is repeated.

    Args:
        dataset: the data set.
        out_file: that of the ``FrameIoUMetric``, which writes the parts.
        shuffle: as MMEngine's samplers have it; only False is accepted.
        seed: likewise, not used.

    Raises:
        ValueError: ``shuffle`` is not False.
    """

    def __init__(self, dataset: BaseRefVOSDataset, out_file: str, shuffle: bool = False,
                 seed: int | None = None) -> None:
        if shuffle:
            raise ValueError('UnlabelledVideoSampler keeps the order: shuffle must be False')
        rank, world_size = get_dist_info()
        parts = osp.expanduser(f'{out_file}.parts')
        ids = [dataset.get_data_info(i)['video_id'] for i in range(len(dataset))]
        left = [i for i, video_id in enumerate(ids)
                if not osp.isfile(osp.join(parts, f'{video_id}.json'))]
        if len(left) < len(ids):
            print_log(f'{len(ids) - len(left)} of {len(ids)} videos are finished in {parts}, '
                      f'{len(left)} are left', 'current')
        self.indices = left[rank::world_size]

    def __iter__(self) -> Iterator[int]:
        """Positions in the data set."""
        return iter(self.indices)

    def __len__(self) -> int:
        """Number of videos of this process."""
        return len(self.indices)

    def set_epoch(self, epoch: int) -> None:
        """Do nothing: the order is fixed."""
