"""MeViSv2: MeViS with expressions that refer to nothing."""

from glus_mm.datasets.mevis import MeViSDataset
from glus_mm.registry import DATASETS


@DATASETS.register_module()
class MeViSv2Dataset(MeViSDataset):
    """A split of MeViSv2 (``train``, ``valid_u``, ``valid``).

    An assumption, made without an official file at hand: the layout is that of MeViS (see
    :class:`MeViSDataset`), and an expression without a target has empty lists as ``obj_id`` and
    ``anno_id``. What else an expression has there, such as its audio, is not read. Should the
    official files differ, this class is the place to change.

    Expressions without a target are trained on with empty masks, and score in N-acc and T-acc.
    """

    METAINFO: dict = dict(dataset='mevis_v2')
