"""SAM-2's video tracking in place of GLUS's own propagation (Table 6 of the paper)."""

import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glus_mm.models.heads import SAM2Features, SAM2MemoryHead
from glus_mm.models.heads.sam2_arch import INSTALL_SAM2, load_sam2_yaml, sam2_sizes
from glus_mm.models.inference import BoundedCache, VideoSession
from glus_mm.models.propagators.frame_encoder import sam_input
from glus_mm.models.propagators.key_mask_propagator import KeyMaskPropagator, MaskTracker
from glus_mm.models.segmentors import GLUS
from glus_mm.registry import MODELS
from glus_mm.utils.checkpoint import check_finite, check_fit, list_keys, model_state_of
from glus_mm.utils.checkpoint_files import read_checkpoint
from glus_mm.utils.hub import download, is_hub_name

if TYPE_CHECKING:
    from sam2.modeling.sam2_base import SAM2Base


class SAM2Tracker(MaskTracker):
    """Drive the stock ``SAM2Base.track_step`` as ``SAM2VideoPredictor`` does.

    What the predictor does is done here, on tracks in a batch instead of one at a time: the mask
    of the key frame is the conditioning memory, later frames attend to it, to the memories of
    the frames before and to object pointers, with temporal encodings; a backward pass also sees
    the first frames of the forward pass, as with the predictor that goes on backward in the same
    state. Memories are rounded to bfloat16, as there. A test compares the two.

    What differs: of the outputs only those are kept that a later frame can attend to, whereas the
    predictor holds the outputs of all frames; frames come from the session, resized with
    anti-aliased bilinear instead of PIL's bicubic interpolation; and holes in masks are not
    filled (the predictor fills those of up to 8 pixels where its CUDA extension was compiled).

    Args:
        sam: the model, which is not changed.
        features: gives the features (M = 1) of a frame.
        num_frames: length T of the video.
        multimask: False never takes mask tokens 1 to 3 in tracking.
        use_pointers, use_object_scores: see :class:`SAM2Propagator`.
    """

    def __init__(self, sam: 'SAM2Base', features: Callable[[int], SAM2Features], num_frames: int,
                 multimask: bool = True, use_pointers: bool = True,
                 use_object_scores: bool = True) -> None:
        # Shares all weights; only these switches are its own.
        self.sam = copy.copy(sam)
        self.sam.multimask_output_in_sam = sam.multimask_output_in_sam and multimask
        self.sam.use_obj_ptrs_in_encoder = sam.use_obj_ptrs_in_encoder and use_pointers
        self.sam.pred_obj_scores = sam.pred_obj_scores and use_object_scores
        # As sam2.build_sam.build_sam2_video_predictor sets it.
        self.sam.binarize_mask_from_pts_for_mem_enc = True
        self.features = features
        self.num_frames = num_frames
        self.memory_reach = (sam.num_maskmem - 2) * sam.memory_temporal_stride_for_eval + 1
        self.pointer_reach = max(self.memory_reach, sam.max_obj_ptrs_in_encoder - 1)
        self._position: Tensor | None = None

    @torch.no_grad()
    def start(self, frame_idx: int, masks: Tensor) -> dict[str, dict]:
        """See :meth:`MaskTracker.start`; the state is an ``output_dict`` of ``track_step``."""
        size = (self.sam.image_size, self.sam.image_size)
        inputs = masks[:, None].float()
        if inputs.shape[2:] != size:
            inputs = F.interpolate(
                inputs, size, mode='bilinear', align_corners=False, antialias=True)
            inputs = (inputs >= 0.5).float()
        state = dict(cond_frame_outputs={}, non_cond_frame_outputs={})
        with _autocast(self.sam):
            frame = self._frame(frame_idx, len(masks))
            out = self.sam.track_step(
                frame_idx=frame_idx, is_init_cond_frame=True, **frame, point_inputs=None,
                mask_inputs=inputs, output_dict=state, num_frames=self.num_frames,
                run_mem_encoder=False)
            # The predictor makes this memory from the small mask.
            high_res = F.interpolate(
                out['pred_masks'], size, mode='bilinear', align_corners=False)
            out['maskmem_features'], out['maskmem_pos_enc'] = self.sam._encode_new_memory(
                frame['current_vision_feats'], frame['feat_sizes'], high_res,
                out['object_score_logits'], is_mask_from_pts=True)
        state['cond_frame_outputs'][frame_idx] = self._entry(out)
        return state

    @torch.no_grad()
    def track(self, frame_idx: int, state: dict[str, dict],
              reverse: bool) -> tuple[Tensor, Tensor]:
        """See :meth:`MaskTracker.track`; scores are the IoU that the mask decoder expects."""
        key, entry = next(iter(state['cond_frame_outputs'].items()))
        with _autocast(self.sam), _expected_ious(self.sam.sam_mask_decoder) as ious:
            out = self.sam.track_step(
                frame_idx=frame_idx, is_init_cond_frame=False,
                **self._frame(frame_idx, len(entry['obj_ptr'])), point_inputs=None,
                mask_inputs=None, output_dict=state, num_frames=self.num_frames,
                track_in_reverse=reverse)
        past = state['non_cond_frame_outputs']
        past[frame_idx] = self._entry(out)
        for t in list(past):
            # The start of the forward pass stays for the backward one.
            distance = min(abs(t - frame_idx), t - key if t > key else self.num_frames)
            if distance > self.pointer_reach:
                del past[t]
            elif distance > self.memory_reach:
                past[t]['maskmem_features'] = None
        scores = ious[-1].max(1).values
        if self.sam.pred_obj_scores:
            scores = scores * (out['object_score_logits'][:, 0] > 0)
        return out['pred_masks'][:, 0], scores

    def _frame(self, frame_idx: int, num: int) -> dict[str, list]:
        """The arguments of ``track_step`` about the frame, for ``num`` tracks."""
        feats = self.features(frame_idx)
        levels = [f.expand(num, -1, -1, -1) for f in (*feats.high_res, feats.top)]
        position = feats.top_pos.expand(num, -1, -1, -1)
        return dict(
            current_vision_feats=[f.flatten(2).permute(2, 0, 1) for f in levels],
            current_vision_pos_embeds=[position.flatten(2).permute(2, 0, 1)],
            feat_sizes=[tuple(f.shape[2:]) for f in levels])

    def _entry(self, out: dict[str, Any]) -> dict[str, Any]:
        """What of a frame's output later frames read."""
        features = out['maskmem_features']
        if self._position is None:  # the same for all frames and tracks
            self._position = out['maskmem_pos_enc'][-1][:1].clone()
        return dict(
            maskmem_features=features.to(torch.bfloat16).to(features.dtype),
            maskmem_pos_enc=[self._position.expand(len(features), -1, -1, -1)],
            obj_ptr=out['obj_ptr'])


def _autocast(sam: nn.Module) -> AbstractContextManager:
    """SAM-2's own code mixes float32 with the type of its weights; half ones need autocast."""
    for parameter in sam.parameters():
        if parameter.dtype in (torch.bfloat16, torch.float16):
            return torch.autocast(parameter.device.type, parameter.dtype)
    return nullcontext()


@contextmanager
def _expected_ious(decoder: nn.Module) -> Iterator[list[Tensor]]:
    """Listen to the IoUs (n, masks) that the mask decoder expects; ``track_step`` drops them."""
    seen: list[Tensor] = []
    handle = decoder.register_forward_hook(lambda _, args, out: seen.append(out[1]))
    try:
        yield seen
    finally:
        handle.remove()


@MODELS.register_module()
class SAM2Propagator(KeyMaskPropagator):
    """GLUS finds the object on the key frame, SAM-2 tracks it from there.

    With ``sam2`` and ``checkpoint`` this is an external model with weights of its own, as in
    Table 6 of the paper. :meth:`GLUS.prepare` loads them, and they go where GLUS goes. A propagator
    is no ``nn.Module``, so these weights are no part of GLUS: not of its ``state_dict``, its
    parameters or its checkpoints, which stay complete and strict.

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
        ModuleNotFoundError: when weights are loaded: the package ``sam2`` is not installed.
        ValueError: only one of ``sam2`` and ``checkpoint`` is given; when they are loaded, also:
            the weights do not fit; when the first video comes: the mask head runs on transformers.
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

    def tracker(self, model: GLUS, session: VideoSession) -> SAM2Tracker:
        """See :meth:`KeyMaskPropagator.tracker`."""
        own, = self.networks or (None, )
        if own is None and self.sam2 is not None:
            raise RuntimeError('expected GLUS.prepare() before the first video, which loads the '
                               'weights of SAM2Propagator, got a model without it')
        if own is None and not hasattr(model.mask_head.sam2, 'track_step'):
            raise ValueError(
                'SAM2Propagator tracks with the code of the package sam2: expected '
                f"model.mask_head.backend='sam2' ({INSTALL_SAM2}), or sam2 and checkpoint in "
                'model.test_cfg.propagator, got a mask head of transformers')
        head = own or model.mask_head
        # Features of the model's own head are shared with it.
        kept: BoundedCache[SAM2Features] = session.sam_features if own is None else BoundedCache(1)

        def features(frame_idx: int) -> SAM2Features:
            return kept.get(frame_idx, lambda: head.extract_feat(
                sam_input(model, session.frame(frame_idx), head)[None]))

        return SAM2Tracker(
            head.sam2, features, len(session.reader),
            self.dynamic_multimask, self.use_pointers, self.use_object_scores)

    def load(self, device: torch.device) -> None:
        """Build the model with its own weights, float32; see :meth:`BasePropagator.load`."""
        if self.sam2 is None or self.networks:
            return
        path = Path(self.checkpoint)
        if is_hub_name(self.checkpoint):
            folder = download(
                self.checkpoint, ['*.pt'], 'Or download the .pt file elsewhere and give its path '
                'as model.test_cfg.propagator.checkpoint.')
            files = sorted(folder.glob('*.pt'))
            if len(files) != 1:
                raise FileNotFoundError(f'expected one .pt file in {self.checkpoint}, '
                                        f'got {[file.name for file in files]}')
            path = files[0]
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
        self.networks = head,
