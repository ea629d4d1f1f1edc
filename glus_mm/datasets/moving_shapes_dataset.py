"""MovingShapes, the embedded data set."""

from glus_mm.datasets.mevis import MeViSDataset
from glus_mm.datasets.moving_shapes.expressions import KINDS, VARIANT_KINDS
from glus_mm.registry import DATASETS


@DATASETS.register_module()
class MovingShapesDataset(MeViSDataset):
    """A split written by ``tools/dataset_converters/moving_shapes.py``: MeViS's layout.

    Every expression has a ``kind``, and every video its ``height`` and ``width``.
    """

    METAINFO: dict = dict(dataset='moving_shapes')
    KINDS: tuple[str, ...] = (*KINDS, *VARIANT_KINDS)
