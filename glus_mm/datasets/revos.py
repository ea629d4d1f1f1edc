"""ReVOS."""

from glus_mm.datasets.annotation_fields import get_field
from glus_mm.datasets.mevis import MeViSDataset
from glus_mm.registry import DATASETS

KINDS = ('referring', 'reason', 'hallucination')
"""Kinds of expressions, by ``type_id``."""


@DATASETS.register_module()
class ReVOSDataset(MeViSDataset):
    """A split of ReVOS (https://github.com/cilinyan/ReVOS-api) in its official layout.

    ::

        data_root/
          meta_expressions_train_.json   as MeViS's, and "type_id" of an expression
          meta_expressions_valid_.json
          mask_dict.json                 of both splits
          JPEGImages/<video>/<frame>.jpg

    The kind of an expression is 'referring' (``type_id`` 0), 'reason' (1) or 'hallucination' (2,
    which has no target). The id of a video may have several parts, as in ``UVO/all/<id>``: it is a
    path below ``JPEGImages``.

    ``mask_dict_foreground.json``, which the official robustness score reads, holds the union of the
    masks of a video's expressions; a test sample has those, so that it is not read here. For the
    arguments and errors see :class:`BaseRefVOSDataset`; the defaults are those of ``train``.
    """

    METAINFO: dict = dict(dataset='revos')
    KINDS: tuple[str, ...] = KINDS
    ANN_FILE: str = 'meta_expressions_train_.json'
    NESTED_VIDEO_IDS: bool = True

    def parse_kind(self, entry: dict, where: str) -> str:
        """Name the kind, by ``type_id``; see :class:`MeViSDataset`."""
        type_id = get_field(entry, 'type_id', int, where)
        if not 0 <= type_id < len(KINDS):
            raise ValueError(f"{where}, key 'type_id': expected 0, 1 or 2, got {type_id}")
        return KINDS[type_id]
