"""SAM-2's video tracking in place of GLUS's own propagation (Table 6 of the paper)."""

from pathlib import Path

import torch

from glus_mm.models.heads import SAM2Features, SAM2MemoryHead
from glus_mm.models.heads.sam2_arch import INSTALL_SAM2, load_sam2_yaml, sam2_sizes
from glus_mm.models.inference import BoundedCache, VideoSession
from glus_mm.models.propagators.frame_encoder import frame_features
from glus_mm.models.propagators.key_mask_propagator import KeyMaskPropagator
from glus_mm.models.propagators.sam2_tracker import SAM2Tracker
from glus_mm.models.segmentors import GLUS
from glus_mm.registry import MODELS
from glus_mm.utils.checkpoint import check_finite, check_fit, list_keys, model_state_of
from glus_mm.utils.checkpoint_files import read_checkpoint
from glus_mm.utils.hub import download, is_hub_name


@MODELS.register_module()
class SAM2Propagator(KeyMaskPropagator):
    """GLUS finds the object on the key frame, SAM-2 tracks it from there.

    With ``sam2`` and ``checkpoint`` this is an external model with weights of its own, as in
    Table 6 of the paper. They are loaded when the first video is segmented, and moved to where
    GLUS is. A propagator is no ``nn.Module``, so these weights are no part of GLUS: not of its
    ``state_dict``, its parameters or its checkpoints, which stay complete and strict.

    Without them the SAM-2 inside ``model.mask_head`` tracks. It saves memory and shares the image
    features with GLUS, but is another model than the published SAM-2: the training of GLUS has
    changed its mask decoder, which was prompted with seg tokens and never with nothing.

    Args:
        sam2: name, YAML file or sizes, see :func:`build_sam2`; None for that of the mask head.
        checkpoint: weights of it: a file in Meta's layout, or a repository on the hub that has
            one, such as ``'facebook/sam2-hiera-large'``.
        image_size: side S of its input.
        dynamic_multimask: see :func:`build_sam2`. False is for a SAM-2 of which only mask token 0
            was trained, such as that of the embedded default model: tracking, where stock SAM-2
            takes the best of tokens 1 to 3, then takes token 0, too.
        use_pointers: False for a SAM-2 whose object pointers were never trained, such as that of
            the embedded default model.
        use_object_scores: likewise for its "is there an object"; where SAM-2 says no, the mask is
            empty.

    Raises:
        FileNotFoundError: there is no such ``sam2`` or no such file.
        ModuleNotFoundError: when the first video comes: the package ``sam2`` is not installed.
        ValueError: only one of ``sam2`` and ``checkpoint`` is given; when the first video comes,
            also: the weights do not fit, or the mask head runs on transformers.
    """

    def __init__(self,
                 sam2: str | dict | None = None,
                 checkpoint: str | None = None,
                 image_size: int = 1024,
                 dynamic_multimask: bool = True,
                 use_pointers: bool = True,
                 use_object_scores: bool = True) -> None:
        where = 'model.test_cfg.propagator'
        if (sam2 is None) != (checkpoint is None):
            raise ValueError(f'expected both or neither of {where}.sam2 and .checkpoint, '
                             f'got {sam2!r} and {checkpoint!r}')
        if isinstance(sam2, dict):
            sam2_sizes(**sam2)
        elif sam2 is not None:
            load_sam2_yaml(sam2)
        if checkpoint is not None and not is_hub_name(checkpoint) \
                and not Path(checkpoint).is_file():
            raise FileNotFoundError(f'expected weights of SAM-2 in {where}.checkpoint, '
                                    f'but there is no file {checkpoint}')
        self.sam2 = sam2
        self.checkpoint = checkpoint
        self.image_size = image_size
        self.dynamic_multimask = dynamic_multimask
        self.use_pointers = use_pointers
        self.use_object_scores = use_object_scores
        self._own: SAM2MemoryHead | None = None

    def tracker(self, model: GLUS, session: VideoSession) -> SAM2Tracker:
        """See :meth:`KeyMaskPropagator.tracker`."""
        own = None if self.sam2 is None else self._own_head().to(model.mask_head.sam2.device)
        if own is None and not hasattr(model.mask_head.sam2, 'track_step'):
            raise ValueError(
                'SAM2Propagator tracks with the code of the package sam2: expected '
                f"model.mask_head.backend='sam2' ({INSTALL_SAM2}), or sam2 and checkpoint in "
                'model.test_cfg.propagator, got a mask head of transformers')
        kept: BoundedCache[SAM2Features] = BoundedCache(1)

        def features(frame_idx: int) -> SAM2Features:
            return kept.get(frame_idx, lambda: frame_features(model, session, frame_idx, own))

        return SAM2Tracker(
            (own or model.mask_head).sam2, features, len(session.reader),
            self.dynamic_multimask, self.use_pointers, self.use_object_scores)

    def _own_head(self) -> SAM2MemoryHead:
        """The model with its own weights, float32, built at the first call."""
        if self._own is None:
            path = self._weights()
            with torch.random.fork_rng(devices=[]):
                head = SAM2MemoryHead(self.sam2, self.image_size, self.dynamic_multimask,
                                      trainable=[], backend='sam2')
            state = read_checkpoint(path)
            if isinstance(state, dict) and 'model' in state:
                state = state['model']
            state = model_state_of(state, str(path))
            unknown = check_fit(head.sam2, state, str(path))
            if unknown:  # such as those of SAM 2.1 in a SAM 2
                raise ValueError('\n'.join([
                    f'the weights are those of another SAM-2 than {self.sam2!r}: {path}',
                    list_keys('unknown to it', unknown)]))
            check_finite(state, str(path))
            head.sam2.load_state_dict(state)
            self._own = head.eval()
        return self._own

    def _weights(self) -> Path:
        if not is_hub_name(self.checkpoint):
            return Path(self.checkpoint)
        folder = download(self.checkpoint, ['*.pt'], 'Or download the .pt file elsewhere and give '
                          'its path as model.test_cfg.propagator.checkpoint.')
        files = sorted(folder.glob('*.pt'))
        if len(files) != 1:
            raise FileNotFoundError(f'expected one .pt file in {self.checkpoint}, '
                                    f'got {[file.name for file in files]}')
        return files[0]
