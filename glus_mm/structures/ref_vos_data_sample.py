"""The one object between data sets, models, metrics and visualizers."""

from mmengine.structures import BaseDataElement


class RefVOSDataSample(BaseDataElement):
    """One video with its expressions, their ground truth and their predictions.

    Axis letters: ``E`` expressions, ``T`` frames of the video, ``Tq`` query frames, ``H, W`` the
    original size.

    Metainfo:
        dataset (str): name of the data set; object identities are only comparable within one.
        video_id (str).
        exp_ids (tuple[str]): (E).
        expressions (tuple[str]): (E), as annotated.
        object_ids (tuple[tuple[str]]): (E), the objects that each expression refers to; empty
            where it refers to none.
        kinds (tuple[str | None]): (E), the kind of expression where the data set states one.
        context_frame_ids (list[int]): (Tc), 0-based positions in the video.
        query_frame_ids (list[int]): (Tq), likewise.
        frame_names (tuple[str]): (T), file stems.
        ori_shape (tuple[int, int]): ``(H, W)``.
        trained_scores (tuple[str]): see :attr:`GLUS.trained_scores`; of a prediction.

    Each data field is present only where it makes sense.

    Data fields:
        gt_masks (Tensor): uint8 (E, Tq, H, W); 2 or more where objects overlap and the masks were
            loaded with ``overlap='sum'``.
        gt_rles (list[list[dict]]): (E)(T) COCO RLEs, the objects of an expression united; where
            some of them overlap, with a key ``objects``, their own RLEs.
        gt_scores (Tensor): float32 (E, Tq), the IoU that a key-frame selector is to predict.
        object_names, object_cells, object_centres, object_sizes, object_words, object_lit: where
            the objects of the video are on the frames of the prompt, see :class:`LoadObjects`.
        pred_masks (list[list[dict]]): (E)(T) COCO RLEs.
        pred_scores (Tensor): float32 (E, T), the IoU that the mask decoder expects.
        pred_seg (Tensor): bool (E, T), False where no ``[SEG]`` was generated; the mask is empty.
        pred_presence (Tensor): float32 (E, T), the probability of ``[SEG]``, with which the object
            is said to be visible; nan where the model does not tell.
        pred_frame_scores (Tensor): float32 (E, T), what a key-frame selector expects of each
            frame; nan where it gave no score.
        key_frames (list[int]): (E), where it is to start, if that is given with the video.
        key_frame_ids (list[int]): (E), where propagation starts.
        key_masks (list[dict]): (E) COCO RLEs of the masks there, where they are given.
    """

    def __len__(self) -> int:
        return len(self.exp_ids)
