"""LV-VIS, with expressions."""

from glus_mm.datasets.mevis import MeViSDataset
from glus_mm.registry import DATASETS


@DATASETS.register_module()
class LVVISDataset(MeViSDataset):
    """The training split of LV-VIS (https://github.com/haochenheheda/LVVIS) with expressions.

    The expressions and masks are those that the authors of VISA publish, in MeViS's form::

        data_root/
          meta_expressions.json
          mask_dict.json
          train/JPEGImages/<video>/<frame>.jpg

    It serves for training only. For the arguments and errors see :class:`BaseRefVOSDataset`.
    """

    METAINFO: dict = dict(dataset='lv_vis')
    DATA_PREFIX: dict = dict(img='train/JPEGImages', mask='mask_dict.json')
