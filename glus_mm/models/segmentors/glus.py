"""GLUS: wires MLLM and mask head; training and testing decode a frame with the same function."""

import functools
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.model import BaseModel
from torch import Tensor, nn
from torch.nn import functional as F

from glus_mm.models.heads import HeadOutput, MemoryBank, SAM2Features
from glus_mm.models.inference import GLUSTestCfg, MaskPrediction, VideoSession, map_in_thread
from glus_mm.models.inference.test_cfg import explain_out_of_memory
from glus_mm.models.inference.together import Prediction, Steps, Video, Work, alone, together
from glus_mm.models.losses import mean_over_processes
from glus_mm.models.mllms.base_mllm import ConversationTrace, SegTokens
from glus_mm.models.segmentors.batch import (
    correcting_clicks,
    distinct_frames,
    token_identities,
    visible_frames,
)
from glus_mm.models.segmentors.hub_mixin import HubMixin
from glus_mm.models.segmentors.train_cfg import GLUSTrainCfg
from glus_mm.registry import MODELS, build_child
from glus_mm.structures import RefVOSDataSample
from glus_mm.utils.checked import checked
from glus_mm.utils.deprecation import without_fixed
from glus_mm.utils.empty_weights import load_weights
from glus_mm.utils.masks import encode_mask
from glus_mm.utils.modules import check_keys
from glus_mm.utils.precision import at_least_float32, default_dtype, parse_dtype, set_precision
from glus_mm.utils.quantize import check_llm_bits, quantize_llm
from glus_mm.video import FrameReader

CE_TARGETS = ('seg', 'answer')
EXISTENCE = ('mask', 'answer')


@MODELS.register_module()
class GLUS(HubMixin, BaseModel):
    """Global-local unified reasoning for referring video object segmentation (CVPR 2025).

    Args:
        mllm: config of a :class:`BaseMLLM`; its ``seg_dim`` follows the mask head.
        mask_head: config of a :class:`MemoryHead`.
        loss_ce: config of the loss on answer tokens.
        loss_mask_bce: config of the first mask loss.
        loss_mask_dice: config of the second mask loss.
        loss_contrastive: config of the loss between seg tokens, :class:`ObjectContrastiveLoss`;
            None trains without it.
        token_update: config of a :class:`TokenUpdate`, which brings the prompt of the frame before
            into the next one; None prompts SAM-2 with the seg tokens as they are.
        loss_iou: config of the loss on the IoU that the mask decoder expects, such as
            :class:`MaskIoULoss`; it counts on masks whose object is visible, as in the training
            of SAM-2. None trains without it, and then nothing shows that IoU to people, see
            :attr:`trained_scores`. In training the mask is always that of mask token 0, so that
            with ``mask_head.dynamic_multimask`` the scores of the other ones stay what they are.
        loss_motion: config of a :class:`MotionLoss`, a loss on the LLM's visual tokens that only
            training has; the pipeline then has :class:`LoadObjects`. None trains without it.
        loss_grounding: config of a :class:`GroundingLoss`, likewise.
        ce_target: ``'seg'`` supervises ``[SEG]`` only, as the official code does; ``'answer'`` the
            whole answer, which is what makes a model learn from scratch. The answers of talk,
            which have no ``[SEG]``, are always supervised as a whole.
        existence: how the model says that a frame does not show the object, be it hidden, gone or
            never there. ``'mask'``, as published: ``[SEG]`` with an empty mask; where another
            token is predicted instead, the mask is empty, and the history still has ``[SEG]``.
            ``'answer'``: without ``[SEG]``. In training, a query frame whose true mask is empty
            is answered with the prompt template's word for it (``absent``) in the place of
            ``[SEG]``; that answer has as many tokens. It is part of the history in both phases,
            it is supervised with either ``ce_target``, its seg token takes no part in the
            contrastive loss, the frame has no mask loss, and it stores no memory. (A mask loss
            would teach the same thing to the decoder, from a state that is to predict another
            word.) With ``train_cfg.one_token_seg_all`` the one answer is ``[SEG]`` if any query
            frame shows the object. Needs a template with such a word.
        train_cfg: fields of :class:`GLUSTrainCfg`.
        test_cfg: fields of :class:`GLUSTestCfg`.
        dtype: ``'float32'``, ``'bfloat16'`` or ``'float16'``, the type of frozen parameters.
            Trained ones are float32, so that no autocast is needed; buffers, losses and the
            upsampling of masks too. Parts of which some parameters are trained are float32 as a
            whole, see :func:`glus_mm.utils.precision.set_precision`; LoRA leaves its layer as it
            is. With ``mllm.trainable=[]`` and ``mask_head.trainable=[]`` all is in ``dtype``.
        data_preprocessor: config of a :class:`RefVOSDataPreprocessor`.
        init_cfg: as in MMEngine.

    Attributes:
        selector (BaseKeyFrameSelector): chooses key frames, see ``test_cfg.selector``. One with
            weights of its own is outside of this module, see :meth:`prepare`.
        trained_scores (tuple[str]): which scores the model is trained to give, so that people may
            be shown them: ``'scores'``, the expected IoU of a mask, with ``loss_iou``;
            ``'presence'``, the probability of ``[SEG]``, with ``existence='answer'``.
    """

    def __init__(self,
                 mllm: dict,
                 mask_head: dict,
                 loss_ce: dict | None = None,
                 loss_mask_bce: dict | None = None,
                 loss_mask_dice: dict | None = None,
                 loss_contrastive: dict | None = None,
                 token_update: dict | None = None,
                 loss_iou: dict | None = None,
                 loss_motion: dict | None = None,
                 loss_grounding: dict | None = None,
                 ce_target: str = 'seg',
                 existence: str = 'mask',
                 train_cfg: dict | None = None,
                 test_cfg: dict | None = None,
                 dtype: str = 'float32',
                 data_preprocessor: dict | None = None,
                 init_cfg: dict | None = None) -> None:
        preprocessor = build_child(MODELS, data_preprocessor or dict(type='RefVOSDataPreprocessor'))
        super().__init__(preprocessor, init_cfg)
        checked(CE_TARGETS, 'model.', ce_target=ce_target)
        checked(EXISTENCE, 'model.', existence=existence)
        dtype = parse_dtype(dtype, 'model.dtype')
        self.mask_head = build_child(MODELS, mask_head)
        # An MLLM may be too large to be built in float32 first; SAM-2 is small, and its random
        # buffer has to be float32.
        with nullcontext() if dtype == torch.float32 else default_dtype(dtype):
            self.mllm = build_child(MODELS, mllm, seg_dim=self.mask_head.token_dim)
        if dtype != torch.float32:
            for part in (self.mllm, self.mask_head):
                set_precision(part, dtype, part.precision_parts)
        if existence == 'answer':
            self.mllm.check_absent()
        self.loss_ce = build_child(MODELS, loss_ce or dict(type='TokenCELoss'))
        self.loss_mask_bce = build_child(MODELS, loss_mask_bce or dict(type='MaskBCELoss'))
        self.loss_mask_dice = build_child(MODELS, loss_mask_dice or dict(type='MaskDiceLoss'))
        self.loss_contrastive = (
            None if loss_contrastive is None else build_child(MODELS, loss_contrastive))
        if token_update is not None and dict(train_cfg or {}).get('one_token_seg_all'):
            raise ValueError('model.token_update brings the token of a frame into the next one: '
                             'expected None with model.train_cfg.one_token_seg_all, got an update')
        self.token_update = None if token_update is None else build_child(
            MODELS, token_update, token_dim=self.mask_head.token_dim)
        self.loss_iou = None if loss_iou is None else build_child(MODELS, loss_iou)
        width = self.mllm.llm.config.hidden_size if loss_motion or loss_grounding else None
        self.loss_motion, self.loss_grounding = (
            None if loss is None else build_child(MODELS, loss, width=width)
            for loss in (loss_motion, loss_grounding))
        self.ce_target = ce_target
        self.existence = existence
        self.trained_scores = (*['scores'] * (loss_iou is not None),
                               *['presence'] * (existence == 'answer'))
        train_cfg = without_fixed(train_cfg, 'model.train_cfg', '0.2', reuse='exact')
        known = GLUSTrainCfg.__dataclass_fields__
        self.train_cfg = GLUSTrainCfg(**check_keys(train_cfg, known, 'model.train_cfg'))
        if self.train_cfg.one_token_seg_all and loss_contrastive is not None:
            raise ValueError("model.loss_contrastive compares the tokens of frames: expected None "
                             'with model.train_cfg.one_token_seg_all, got a loss')
        if token_update is not None and (existence == 'answer' or self.train_cfg.click_prob):
            raise ValueError(
                'model.token_update is a map of seg tokens alone, of all frames: expected '
                "model.existence='mask' and model.train_cfg.click_prob=0 with it, got "
                f'{existence!r} and {self.train_cfg.click_prob!r}')
        if self.train_cfg.click_prob:
            self.generator = torch.Generator().manual_seed(self.train_cfg.click_seed)
        test_cfg = without_fixed(test_cfg, 'model.test_cfg', '0.2', reuse='exact')
        known = GLUSTestCfg.__dataclass_fields__
        self.test_cfg = GLUSTestCfg(**check_keys(test_cfg, known, 'model.test_cfg'))
        self.mllm.check_frames(self.test_cfg.num_context + self.test_cfg.window,
                               'model.test_cfg.num_context + window')
        if self.train_cfg.attention == 'window' or self.test_cfg.window_cache == 'turns':
            self.mllm.use_turn_window()
        # Not registered, as a selector with weights of its own is no part of this module.
        object.__setattr__(self, 'selector', build_child(
            MODELS, self.test_cfg.selector or dict(type='FirstFrameSelector')))
        self._selector_weights = self._find_selector_weights()
        # Networks beside this module that have their weights, in a tuple, which registers none.
        self._beside: tuple[nn.Module, ...] = ()
        self.propagator = build_child(
            MODELS, self.test_cfg.propagator or dict(type='GLUSPropagator'))
        if self.test_cfg.llm_bits < 16:
            check_llm_bits(self, self.test_cfg.llm_bits)
        self._to_compile = self.test_cfg.compile

    def forward(self, inputs: dict, data_samples: list[RefVOSDataSample] | None = None,
                mode: str = 'tensor'):
        """Dispatch as MMEngine's models do: ``'loss'``, ``'predict'`` or ``'tensor'``.

        Arguments as in ``mmengine.model.BaseModel``.

        Raises:
            ValueError: ``mode`` is another word.
        """
        if mode == 'loss':
            return self.loss(inputs, data_samples)
        if mode == 'predict':
            return self.predict(inputs, data_samples)
        if mode == 'tensor':
            return self._forward(inputs)[0]
        raise ValueError(f'mode must be loss, predict or tensor, got {mode!r}')

    def _find_selector_weights(self) -> Path | None:
        """Where the weights of a selector lie that are still to be loaded."""
        selector = self.selector
        if not isinstance(selector, nn.Module) or selector is self.test_cfg.selector:
            return None
        path = getattr(selector, 'checkpoint', None)
        if path is None:
            raise ValueError('expected model.test_cfg.selector.checkpoint, as the weights of a '
                             f'{type(selector).__name__} are no part of those of GLUS, got none')
        if not Path(path).expanduser().is_file():
            raise FileNotFoundError('expected a checkpoint file in model.test_cfg.selector.'
                                    f'checkpoint, got nothing there: {path}')
        return Path(path).expanduser()

    @torch.inference_mode(False)
    def prepare(self) -> 'GLUS':
        """Bring in what inference alone needs, once the weights are loaded.

        A selector and a propagator with networks of their own get the weights of these. Such
        networks go where GLUS goes from then on; they are no part of its ``state_dict``, its
        parameters or its checkpoints. ``test_cfg.llm_bits`` and ``test_cfg.compile`` take
        effect. What was done before is left as it is. ``init_model``, ``from_pretrained``,
        ``GLUSInferencer`` and :meth:`predict` call it.

        Returns:
            The model itself.

        Raises:
            ModuleNotFoundError: a package is not installed that one of them needs.
            OSError: weights cannot be read.
            ValueError: they do not fit, and the message lists the keys; or the LLM is to be
                trained and ``test_cfg.llm_bits`` is below 16.
        """
        device = self.mask_head.sam2.device
        if self._selector_weights is not None:
            load_weights(self.selector, self._selector_weights, None, device)
            self._selector_weights = None
        self.propagator.load(device)
        beside = [part for part in (self.selector, *self.propagator.networks)
                  if isinstance(part, nn.Module)]
        self._beside = tuple(network.to(device).eval() for network in beside)
        if self.test_cfg.llm_bits < 16:
            quantize_llm(self, self.test_cfg.llm_bits)
        if self._to_compile:
            self.mllm.compile_parts()
            self.mask_head.compile_parts()
            self._to_compile = False
        return self

    def _apply(self, fn: Callable, recurse: bool = True) -> 'GLUS':
        """Move, or cast, networks beside this module with it."""
        for network in self._beside:
            network._apply(fn, recurse)
        return super()._apply(fn, recurse)

    @property
    def uneven_settings(self) -> list[str]:
        """Settings with which the batch decides how often a part of the model runs.

        Processes with batches of their own then run it a different number of times, which is
        nothing to engines that exchange gradients. One that spreads weights, ZeRO-3, collects them
        whenever a part runs, in all processes, which would wait for one another.
        """
        used = {"existence='answer'": self.existence == 'answer',
                'train_cfg.click_prob': self.train_cfg.click_prob > 0,
                'loss_motion': self.loss_motion is not None,
                'loss_grounding': self.loss_grounding is not None}
        return [f'model.{name}' for name, is_used in used.items() if is_used]

    # Training

    def loss(self, inputs: dict, data_samples: list[RefVOSDataSample]) -> dict[str, Tensor]:
        """Losses of a batch of B videos.

        Args:
            inputs: lists of B: ``clip_imgs`` (Tc + Tq, 3, P, P), ``sam_imgs`` (Tq, 3, S, S),
                ``input_ids`` and ``labels`` (E, L); E may differ from video to video. A sample of
                talk has no query frames, Tq = 0.
            data_samples: (B) with ``gt_masks`` (E, Tq, H, W), but for talk.

        Returns:
            ``loss_ce``, ``loss_mask_bce`` and ``loss_mask_dice``, weighted scalars; mask losses
            are means over all masks (expression, frame) of the batch, ``loss_ce`` over its
            supervised tokens; ``train_cfg.normalize`` says whether the batch is that of all
            processes. With a contrastive loss also ``loss_contrastive``, with ``loss_iou`` that.
            Where all of the batch, that of all processes, is talk, there is ``loss_ce`` alone.
        """
        said = None if self.existence == 'mask' else [
            visible_frames(sample, self.train_cfg.one_token_seg_all) for sample in data_samples]
        logits, ce_logits, ce_targets, seg_tokens, scores, trace = self._forward(
            inputs, data_samples, said)
        losses = dict(loss_ce=self.loss_ce(ce_logits, ce_targets))
        counts = dict(loss_ce=len(ce_targets))
        if trace is not None:
            losses.update(self._trace_losses(trace, inputs, data_samples))
        if logits.shape[1]:
            losses.update(self._mask_losses(logits, scores, inputs, data_samples, said, counts))
            if self.loss_contrastive is not None:
                losses['loss_contrastive'] = self.loss_contrastive(
                    seg_tokens.flatten(0, 1), **token_identities(data_samples),
                    valid=None if said is None else torch.cat(
                        [frames.flatten() for frames in said]).tolist())
        return losses if self.train_cfg.normalize == 'local' else mean_over_processes(
            losses, counts)

    def _trace_losses(self, trace: ConversationTrace, inputs: dict,
                      data_samples: list[RefVOSDataSample]) -> dict[str, Tensor]:
        """Losses on states inside of the LLM, over the videos whose samples tell their objects."""
        sizes = [len(ids) for ids in inputs['input_ids']]
        first = {b: sum(sizes[:b]) for b, sample in enumerate(data_samples)
                 if 'object_cells' in sample}
        samples, losses = [data_samples[b] for b in first], {}
        if self.loss_motion is not None:
            states = {layer: [trace.visual(layer, [n] * len(trace.images[n]), trace.images[n])
                              for n in first.values()] for layer in self.loss_motion.layers}
            losses['loss_motion'] = self.loss_motion(
                states, functools.partial(self._attention_before, trace, first), samples)
        if self.loss_grounding is not None:
            layer = self.loss_grounding.layer
            rows, words, images, cells, owned = [], [], [], [], []
            for start, sample in zip(first.values(), samples):
                for e, owners in enumerate(sample.object_ids):
                    objects = [sample.object_names.index(name) for name in owners]
                    covered = sample.object_cells[objects].flatten(2)
                    context = len(sample.context_frame_ids)
                    for q, word in enumerate(trace.answers[start + e]):
                        rows.append(start + e)
                        words.append(word)
                        images.append(trace.images[start + e][context + q])
                        cells.append(covered[:, context + q])
                        owned.append(len(objects))
            owners = torch.arange(len(owned)).repeat_interleave(torch.tensor(owned))
            states = trace.states[layer][trace.index[torch.tensor(rows), torch.tensor(words)]]
            losses['loss_grounding'] = self.loss_grounding(
                states, trace.visual(layer, rows, images),
                self.mllm.attention(layer, trace, rows, words, images), torch.cat(cells),
                owners.to(states.device))
        return losses

    def _attention_before(self, trace: ConversationTrace, first: dict[int, int], layer: int,
                          tokens: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """What visual tokens look at in the frame before; see :class:`MotionLoss`."""
        rows, queries, keys = [], [], []
        for n, (frame, place) in zip(first.values(), tokens):
            starts = torch.tensor(trace.images[n])
            rows += [n] * len(frame)
            queries.append(starts[frame.cpu()] + place.cpu())
            keys.append(starts[frame.cpu() - 1])
        return self.mllm.attention(layer, trace, rows, torch.cat(queries), torch.cat(keys))

    def _mask_losses(self, logits: Tensor, scores: Tensor, inputs: dict,
                     data_samples: list[RefVOSDataSample], said: Sequence[Tensor] | None,
                     counts: dict[str, int]) -> dict[str, Tensor]:
        """Means over the masks of a batch; ``counts`` is told how many there are."""
        names = ['loss_mask_bce', 'loss_mask_dice'] + ['loss_iou'] * (self.loss_iou is not None)
        per_mask = {name: [] for name in names}
        asked = _with_query_frames(inputs)
        sizes = [len(inputs['input_ids'][b]) for b in asked]
        # Nobody asks for the blank track, see _forward.
        for b, video_logits, video_scores in zip(
                asked, logits.split(sizes or len(logits)), scores.split(sizes or len(logits))):
            target = data_samples[b].gt_masks.flatten(0, 1)
            full = F.interpolate(at_least_float32(video_logits), target.shape[-2:],
                                 mode='bilinear', align_corners=False).flatten(0, 1)
            expected = at_least_float32(video_scores).flatten()
            if said is not None:
                with_mask = said[b].flatten()
                full, target, expected = full[with_mask], target[with_mask], expected[with_mask]
            per_mask['loss_mask_bce'].append(self.loss_mask_bce(full, target))
            per_mask['loss_mask_dice'].append(self.loss_mask_dice(full, target))
            if self.loss_iou is not None:
                visible = (target > 0).flatten(1).any(1)
                per_mask['loss_iou'].append(self.loss_iou(expected, full, target)[visible])
        losses = {}
        for name, parts in per_mask.items():
            counts[name] = sum(map(len, parts))
            losses[name] = torch.cat(parts).mean() if counts[name] else (
                logits.sum() + scores.sum()) * 0
        return losses

    def _forward(self, inputs: dict, data_samples: Sequence[RefVOSDataSample] | None = None,
                 said: Sequence[Tensor] | None = None
                 ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, ConversationTrace | None]:
        """Mask logits (N, Tq, h, w), token logits (K, vocabulary), their targets (K), the seg
        tokens (N, Tq, C), the IoU that the decoder expects (N, Tq), and states inside of the LLM
        where a loss needs them; masks, seg tokens and expected IoU are those of conversations with
        query frames only.

        The data samples say which of a video's images show the same frame; without them, or where
        they do not say, each image counts as a frame of its own. ``said`` holds for each video
        bool (E, Tq), which frames are answered with ``[SEG]``; None where all are.

        Where this process has nothing but talk and another one has masks, a blank track is decoded:
        engines that exchange gradients need every process to run the same modules. (ZeRO-3 needs
        them in the same order of the backward pass, too, which a blank track does not give: an
        error.) Where no process has masks, mask logits and scores are (0, 0).
        """
        video_of = [b for b, ids in enumerate(inputs['input_ids']) for _ in range(len(ids))]
        asked = _with_query_frames(inputs)
        sam_imgs = [inputs['sam_imgs'][b] for b in asked]
        visual = self._encode_clips(inputs['clip_imgs'], video_of, data_samples)
        one_token = self.train_cfg.one_token_seg_all
        if one_token:  # the conversation shows only the first query frame
            hidden = [max(len(inputs['sam_imgs'][b]) - 1, 0) for b in video_of]
            visual = [tokens[:len(tokens) - more] for tokens, more in zip(visual, hidden)]
        self.mllm.check_frames(max(map(len, visual)), 'num_context + num_query of the pipeline')
        seg, ce_logits, ce_targets = self.mllm(
            [torch.as_tensor(ids) for rows in inputs['input_ids'] for ids in rows],
            [torch.as_tensor(labels) for rows in inputs['labels'] for labels in rows],
            visual, [self.ce_target if b in asked else 'answer' for b in video_of],
            groups=video_of, answers=None if said is None else [
                row[:1] if one_token else row for frames in said for row in frames.tolist()],
            # An MLLM whose turns see all before them need not know of windows.
            **(dict(window=self.test_cfg.window) if self.train_cfg.attention == 'window' else {}),
            **self._traced_layers(data_samples))
        num_query = self._most_query_frames(max(map(len, inputs['sam_imgs'])), ce_logits.device)
        if not num_query:
            nothing = ce_logits.new_zeros(0, 0)
            return nothing, ce_logits, ce_targets, seg.tokens, nothing, seg.trace
        seg_tokens = seg.tokens.expand(-1, num_query, -1) if one_token else seg.tokens
        prompts = seg_tokens
        tracks = [asked.index(b) for b in video_of if b in asked]
        samples = None if data_samples is None else [data_samples[b] for b in asked]
        if not asked:
            side = self.mask_head.image_size
            sam_imgs, samples, tracks, said = [inputs['sam_imgs'][0].new_zeros(
                num_query, 3, side, side)], None, [0], None
            prompts = seg.tokens.sum((0, 1)).expand(1, num_query, -1)
        found = {len(imgs) for imgs in sam_imgs} | {prompts.shape[1]}
        if len(found) > 1 or len(prompts) != len(tracks):
            raise ValueError(
                'expected as many query frames in every video of a batch as its conversations have '
                f'[SEG], got {sorted(found)} in {len(prompts)} of {len(tracks)} conversations')
        rows, place = distinct_frames(sam_imgs, samples, ['query_frame_ids'])
        feats = self.mask_head.extract_feat(torch.cat(sam_imgs)[rows])
        memory = [self.mask_head.new_memory(self.train_cfg.memory_stride) for _ in tracks]
        place = torch.tensor(place, device=prompts.device).view(-1, num_query)[tracks]
        with_mask = torch.ones(place.shape, dtype=torch.bool) if said is None else torch.cat(
            [said[b] for b in asked])
        targets = None
        if self.train_cfg.click_prob and samples is not None:  # (N, Tq, S, S)
            size = (self.mask_head.image_size, ) * 2
            targets = torch.cat([F.interpolate(sample.gt_masks, size) > 0 for sample in samples])
        preds = []
        for q in range(num_query):
            frame, tokens = feats.select(place[:, q]), prompts[:, q]
            store = with_mask[:, q] & (self.train_cfg.use_memory and q < num_query - 1)
            points = None
            if targets is not None:
                tokens, clicked = self._mistaken_tokens(tokens, tracks)
                points = self._simulate_clicks(
                    frame, tokens, memory, q, targets[:, q], with_mask[:, q], clicked)
            preds.append(self.decode(frame, tokens, memory, q, store.tolist(), points))
        return (torch.stack([pred.low_res_logits for pred in preds], 1), ce_logits, ce_targets,
                seg_tokens, torch.stack([pred.scores for pred in preds], 1), seg.trace)

    def _traced_layers(self, data_samples: Sequence[RefVOSDataSample] | None
                       ) -> dict[str, list[int]]:
        """The argument ``layers`` of the MLLM, where a loss needs it."""
        layers = set() if self.loss_motion is None else {
            *self.loss_motion.layers, *self.loss_motion.track}
        layers |= set() if self.loss_grounding is None else {self.loss_grounding.layer}
        if not layers or not any('object_cells' in sample for sample in data_samples or ()):
            return {}
        return dict(layers=sorted(layers))

    def _mistaken_tokens(self, seg_tokens: Tensor, tracks: Sequence[int]
                         ) -> tuple[Tensor, Tensor]:
        """Seg tokens (N, C), a share of them another expression's of the video, and which (N)."""
        if not self.train_cfg.mistaken_prob:
            return seg_tokens, torch.zeros(len(tracks), dtype=torch.bool)
        video = torch.tensor(tracks)
        others = (video[:, None] == video).float().fill_diagonal_(0)
        alone = ~others.any(1)
        # Drawn for every track, so that how many numbers are drawn does not depend on them.
        source = torch.multinomial(others + alone[:, None], 1, generator=self.generator)[:, 0]
        mistaken = torch.rand(len(video), generator=self.generator) < self.train_cfg.mistaken_prob
        mistaken &= ~alone
        # What the mask loses by it is no fault of either expression's answer.
        wrong, at = mistaken.to(seg_tokens.device), source.to(seg_tokens.device)
        return torch.where(wrong[:, None], seg_tokens[at].detach(), seg_tokens), mistaken

    @torch.no_grad()
    def _simulate_clicks(self, feats: SAM2Features, seg_tokens: Tensor,
                         memory: Sequence[MemoryBank], frame_idx: int, target: Tensor,
                         with_mask: Tensor, clicked: Tensor) -> tuple[Tensor, Tensor] | None:
        """Clicks on some of N tracks, where the mask of the seg token alone is wrong.

        ``target`` is bool (N, S, S), ``with_mask`` bool (N), which tracks have a mask on this
        frame, ``clicked`` bool (N), which get clicks in any case. Returns ``points`` of
        :meth:`decode`.
        """
        cfg, num = self.train_cfg, len(seg_tokens)
        drawn = torch.rand(num, generator=self.generator) < cfg.click_prob
        rows = (drawn | clicked) & with_mask
        rows = rows.nonzero()[:, 0]
        if not len(rows):
            return None
        at = rows.to(target.device)
        pred = self.mask_head(feats.select(at), seg_tokens[at], [memory[i] for i in rows.tolist()],
                              frame_idx).low_res_logits
        pred = F.interpolate(at_least_float32(pred[:, None]), target.shape[1:], mode='bilinear',
                             align_corners=False)[:, 0] > 0
        clicks = correcting_clicks(pred, target[at], cfg.max_clicks, self.generator)
        coords, labels = torch.zeros(num, cfg.max_clicks, 2), torch.full((num, cfg.max_clicks), -1)
        coords[rows], labels[rows] = clicks
        return coords.to(target.device), labels.to(target.device)

    def _most_query_frames(self, number: int, device: torch.device) -> int:
        """Query frames of the process that has the most."""
        if get_world_size() == 1:
            return number
        ends = torch.tensor([number, -number], device=device)
        all_reduce(ends, 'max')
        most, least = int(ends[0]), -int(ends[1])
        if most and not least and any(hasattr(p, 'ds_id') for p in self.parameters()):
            raise ValueError(
                'ZeRO-3 cannot train on a batch that is all talk in one process and has masks in '
                f'another one: expected query frames in every process or in none, got {least} to '
                f'{most}; ZeRO-2 can, and so can ZeRO-3 with larger batches that hold both')
        return most

    def _encode_clips(self, clip_imgs: Sequence[Tensor], video_of: Sequence[int],
                      data_samples: Sequence[RefVOSDataSample] | None) -> list[Tensor]:
        """Visual tokens (Tc + Tq, V, D) of the video of each of N conversations."""
        rows, place = distinct_frames(
            clip_imgs, data_samples, ['context_frame_ids', 'query_frame_ids'])
        visual = self.mllm.encode_images(torch.cat(tuple(clip_imgs))[rows])
        videos = visual[place].split([len(imgs) for imgs in clip_imgs])
        return [videos[b] for b in video_of]

    def decode(self, feats: SAM2Features, seg_tokens: Tensor, memory: Sequence[MemoryBank],
                frame_idx: int | Sequence[int], store: bool | Sequence[bool] = True,
                points: tuple[Tensor, Tensor] | None = None) -> HeadOutput:
        """Decode one frame of N tracks and store its memory: the one path of both phases.

        Args:
            feats: features of the frame of each track, M = N, or of the one frame of all, M = 1.
            seg_tokens: (N, C).
            memory: the N banks; they are extended.
            frame_idx: position in the pass, or (N) those of the tracks; the first frame of a pass
                is 0.
            store: whether a later frame may need the memory, or (N) that of each track.
            points: clicks beside the seg tokens, see :meth:`MemoryHead.forward`.
        """
        if self.token_update is not None:
            seg_tokens = self.token_update(seg_tokens, memory)
        pred = self.mask_head(feats, seg_tokens, memory, frame_idx, points)
        stores = [store] * len(memory) if isinstance(store, bool) else store
        if any(stores):
            positions = [frame_idx] * len(memory) if isinstance(frame_idx, int) else frame_idx
            for bank, place, entry, kept in zip(
                    memory, positions, self.mask_head.encode_memory(pred), stores):
                if kept:
                    bank.add(place, entry)
        return pred

    # Inference

    def predict_masks(self, seg: SegTokens, is_seg: Tensor, size: tuple[int, int],
                      decode: Callable[[Tensor], Generator[Work, Any, HeadOutput]]
                      ) -> Generator[Work, Any, MaskPrediction]:
        """Masks of N tracks on a frame, decoded in batches; the one way from seg tokens to masks.

        Args:
            seg: the seg tokens (N, C) and their presence.
            is_seg: bool (N), which tracks are decoded; the others get an empty mask, score 0.
            size: (H, W) of the masks.
            decode: does so for rows (K) of the tracks, see :meth:`FrameEncoder.decode`.

        Yields:
            The work that ``decode`` asks for.
        """
        num, side, tokens = len(is_seg), self.mask_head.mask_side, seg.tokens
        dtype = torch.promote_types(tokens.dtype, torch.float32)
        logits = tokens.new_full((num, side, side), float('-inf'), dtype=dtype)
        masks = torch.zeros(num, *size, dtype=torch.bool, device=logits.device)
        scores = tokens.new_zeros(num, dtype=dtype)
        for rows in is_seg.nonzero()[:, 0].split(self.test_cfg.max_expressions):
            if not len(rows):
                continue
            pred = yield from decode(rows)
            logits[rows] = pred.low_res_logits.to(dtype)
            scores[rows] = pred.scores.to(dtype)
            masks[rows] = F.interpolate(
                logits[rows][:, None], size, mode='bilinear', align_corners=False)[:, 0] > 0
        return MaskPrediction(masks, logits, tokens, is_seg, scores, seg.presence)

    @torch.inference_mode()
    def predict(self, inputs: dict,
                data_samples: list[RefVOSDataSample]) -> list[RefVOSDataSample]:
        """Segment whole videos.

        Args:
            inputs: ``reader``, a list of B frame readers.
            data_samples: (B), with the expressions.

        Returns:
            The data samples with ``pred_masks``, ``pred_scores``, ``pred_seg``,
            ``pred_presence`` and ``key_frame_ids``.

        Raises:
            torch.OutOfMemoryError: the memory does not suffice; says which option to lower.
        """
        self.prepare()

        def open_video(i: int) -> tuple[VideoSession, Sequence[int]]:
            reader, sample = inputs['reader'][i], data_samples[i]
            session = self.init_session(reader, sample)
            if session.key_masks is None:
                sample.key_frame_ids = (sample.get('key_frames')
                                        or self.selector.select(reader, sample).frame_ids)
            shape = len(session.expressions), len(reader)
            sample.pred_masks = [[None] * shape[1] for _ in range(shape[0])]
            sample.pred_scores, sample.pred_presence = torch.zeros(shape), torch.zeros(shape)
            sample.pred_seg = torch.zeros(shape, dtype=torch.bool)
            sample.set_metainfo(dict(trained_scores=self.trained_scores,
                                     context_frame_ids=session.context_frame_ids))
            return session, sample.key_frame_ids

        sizes = [len(sample.expressions) for sample in data_samples]
        results = self.segment_together(
            (i, size, functools.partial(open_video, i)) for i, size in enumerate(sizes))
        most = max(*sizes, min(sum(sizes), self.test_cfg.max_tracks))
        with explain_out_of_memory(self.test_cfg, most):
            for (i, item), rles in map_in_thread(lambda result: [
                    encode_mask(mask) for mask in result[1][2].masks.cpu().numpy()]
                    if isinstance(result[1], tuple) else [], results, depth=2):
                if isinstance(item, Exception):
                    raise item
                if item is None:
                    continue
                sample, (t, exps, pred) = data_samples[i], item
                for e, rle in zip(exps, rles):
                    sample.pred_masks[e][t] = rle
                sample.pred_scores[exps, t] = pred.scores.float().cpu()
                sample.pred_seg[exps, t] = pred.is_seg.cpu()
                sample.pred_presence[exps, t] = pred.presence.float().cpu()
        return data_samples

    def init_session(self, reader: FrameReader, data_sample: RefVOSDataSample) -> VideoSession:
        """Open the state of one video.

        Args:
            reader: its frames.
            data_sample: its expressions; every one is checked here, before any work.

        Raises:
            ValueError: an expression cannot be used, which the message names.
        """
        cfg = self.test_cfg
        for expression in data_sample.expressions:
            self.mllm.prompt(expression, cfg.num_context, 1)
        key_masks = data_sample.get('key_masks')
        if key_masks is not None and not self.propagator.takes_masks:
            raise ValueError('expected a model.test_cfg.propagator that starts from masks, such as '
                             "'SAM2Propagator', where the data give them (LoadKeyMasks), got "
                             f'{type(self.propagator).__name__!r}, which goes by the words')
        return VideoSession(reader, tuple(data_sample.expressions),
                            reader.context_frames(cfg.num_context),
                            window=cfg.window + cfg.window_stride - 1,
                            feature_cache=cfg.feature_cache, prefetch=cfg.prefetch,
                            key_masks=key_masks)

    def segment(self, session: VideoSession, key_frames: Sequence[int] | None = None
                ) -> Generator[Prediction, None, None]:
        """Segment every frame for every expression.

        ``test_cfg.propagator`` says how, :class:`GLUSPropagator` by default.

        Args:
            session: state of the video.
            key_frames: (E) 0-based positions; the first frame by default.

        Yields:
            ``(frame_idx, exp_indices, prediction)``, each frame once for each expression.

        Raises:
            ValueError: a key frame is not a position in the video.
        """
        return alone(self._steps(lambda: (session, key_frames)))

    def segment_together(self, videos: Iterable[
            tuple[Any, int, Callable[[], tuple[VideoSession, Sequence[int] | None]]]]
            ) -> Iterator[tuple[Any, Prediction | Exception | None]]:
        """Segment several videos, as many at once as ``test_cfg.max_tracks`` has room for.

        Each has its own session, memory and clock; what they need of the networks at the same
        time is done in one batch. The masks are those of :meth:`segment`, video by video.

        Args:
            videos: a name, the number of expressions, and what opens the session, and gives the
                key frames, when it is the video's turn.

        Yields:
            ``(name, prediction)`` as :meth:`segment` does, and at the end of a video
            ``(name, None)``, or ``(name, error)`` with what ended it; the others go on.
        """
        return together((Video(name, tracks, self._steps(open_video))
                         for name, tracks, open_video in videos),
                        self.test_cfg.max_tracks, self.test_cfg.max_expressions)

    def _steps(self, open_video: Callable[[], tuple[VideoSession, Sequence[int] | None]]) -> Steps:
        """Segment a video that is opened now, from key frames or the first frame on."""
        session, key_frames = open_video()
        num_exp, num_frames = len(session.expressions), len(session.reader)
        key_frames = [0] * num_exp if key_frames is None else list(key_frames)
        if len(key_frames) != num_exp or not all(0 <= k < num_frames for k in key_frames):
            raise ValueError(f'expected a key frame in 0..{num_frames - 1} for each of {num_exp} '
                             f'expressions, got {key_frames}')
        if key_frames:
            yield from self.propagator.steps(self, session, key_frames)

    def propagate(self, session: VideoSession, exp_indices: Sequence[int], start: int = 0,
                  reverse: bool = False) -> Iterator[tuple[int, MaskPrediction]]:
        """Segment from one frame on, in one direction, with GLUS itself.

        Args:
            session: state of the video.
            exp_indices: (E) which of its expressions.
            start: 0-based position of the first frame.
            reverse: go to the first frame of the video instead of the last.

        Yields:
            ``(frame_idx, prediction)``, frame by frame, for all of ``exp_indices``.
        """
        return self.propagator.propagate(self, session, exp_indices, start, reverse)


def _with_query_frames(inputs: dict) -> list[int]:
    """Which videos of a batch are to be segmented; the others are talk."""
    return [b for b, imgs in enumerate(inputs['sam_imgs']) if len(imgs)]
