"""Ref-SAV."""

from glus_mm.datasets.annotation_fields import get_field
from glus_mm.datasets.mevis import MeViSDataset
from glus_mm.registry import DATASETS

KINDS = ('long', 'short')
"""Kinds of expressions, by ``type_id``."""


@DATASETS.register_module()
class RefSAVDataset(MeViSDataset):
    """The validation split of Ref-SAV (https://github.com/magic-research/Sa2VA), in MeViS's form.

    ::

        data_root/
          meta_expressions_valid.json   as MeViS's, and "type_id" of an expression, where it has one
          mask_dict.json
          videos/<video>/<frame>.jpg

    The kind of an expression is 'long' (``type_id`` 0) or 'short' (1), where the annotation says
    so. For the arguments and errors see :class:`BaseRefVOSDataset`.
    """

    METAINFO: dict = dict(dataset='ref_sav')
    ANN_FILE: str = 'meta_expressions_valid.json'
    DATA_PREFIX: dict = dict(img='videos', mask='mask_dict.json')

    def parse_kind(self, entry: dict, where: str) -> str | None:
        """Name the kind, by ``type_id``; see :class:`MeViSDataset`."""
        if 'type_id' not in entry:
            return None
        type_id = get_field(entry, 'type_id', int, where)
        if not 0 <= type_id < len(KINDS):
            raise ValueError(f"{where}, key 'type_id': expected 0 or 1, got {type_id}")
        return KINDS[type_id]
