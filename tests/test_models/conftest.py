"""The smallest GLUS, made from the shipped tiny config, and a video with expressions for it.

A model with random weights never says ``[SEG]``; :func:`emit_seg` makes it do so.
"""

import copy
import sys
from collections import OrderedDict
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from mmengine import Config

from glus_mm.models import GLUS
from glus_mm.models.inference import ArrayReader
from glus_mm.models.propagators import GLUSPropagator
from glus_mm.registry import MODELS, build_child
from glus_mm.structures import RefVOSDataSample
from glus_mm.text.prompt import build_conversation
from glus_mm.utils.image import sam2_image, vision_tower_image
from programs import ROOT

sys.path.append(str(ROOT / 'tools' / 'analysis_tools'))  # official_order is there
TINY = ROOT / 'configs' / '_base_' / 'models' / 'glus_tiny.py'
EXPRESSIONS = ('the red circle', 'the big blue square that moves to the left', 'all stars')
VISION_TOWER = dict(
    hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
    image_size=16, patch_size=4)
LLM = dict(
    hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
    max_position_embeddings=1024, initializer_range=0.2)
# At its initial 1e-6 the fuser's layer scale would leave a branch untested.
SAM2 = dict(
    embed_dim=8, stages=(1, 1, 2, 1), global_att_blocks=(3, ), d_model=32, mem_dim=16,
    num_memory_layers=1, ffn_dim=32, dropout=0.0, layer_scale=0.3)


def shrunk_config(options: dict | None = None) -> dict:
    """Config of the shipped tiny model with smaller sizes.

    Args:
        options: dotted keys below ``model`` and their values.
    """
    model = Config.fromfile(TINY).model.to_dict()
    model['mllm'].update(vision_tower=VISION_TOWER, llm=LLM, pooling='2x2')
    model['mask_head'].update(sam2=SAM2, image_size=64)
    cfg = Config(dict(model=model))
    cfg.merge_from_dict({f'model.{key}': value for key, value in (options or {}).items()})
    return cfg.model.to_dict()


@pytest.fixture(scope='session')
def tiny_cfg() -> Callable[..., dict]:
    """``tiny_cfg({'mllm.pooling': 'none'})``: config of a small GLUS with options."""
    return shrunk_config


@pytest.fixture(scope='session')
def make_glus() -> Callable[..., GLUS]:
    """``make_glus(options, dtype, seed)``: a small GLUS in eval mode; equal calls, equal weights.

    The last 32 are kept, of which a call gets a copy: to build one takes three times as long.
    """
    kept: OrderedDict[str, tuple[GLUS, torch.Tensor]] = OrderedDict()

    def make(options: dict | None = None, dtype: torch.dtype = torch.float64,
             seed: int = 0) -> GLUS:
        key = repr((options, dtype, seed))
        if key not in kept:
            torch.manual_seed(seed)
            model = build_child(MODELS, shrunk_config(options))
            with torch.no_grad():
                for name, parameter in model.mask_head.named_parameters():
                    if name.endswith(('no_mem_embed', 'bias')):
                        parameter.normal_(std=0.2)
            kept[key] = model.to(dtype).eval(), torch.get_rng_state()
        kept.move_to_end(key)
        while len(kept) > 32:
            kept.popitem(last=False)
        model, state = kept[key]
        torch.set_rng_state(state)
        return copy.deepcopy(model)

    return make


def make_video(seed: int, number: int, step: int = 4, width: int = 16) -> list[np.ndarray]:
    """Frames (40, 56) with a bright square that moves over noise."""
    frames = np.random.default_rng(seed).integers(0, 120, (number, 40, 56, 3), dtype=np.uint8)
    for i, frame in enumerate(frames):
        frame[8:28, step * i:step * i + width] = (250, 5 * step * i, 30)
    return list(frames)


@pytest.fixture(scope='session')
def video() -> list[np.ndarray]:
    """8 of them."""
    return make_video(0, 8)


@pytest.fixture(scope='session')
def long_video() -> list[np.ndarray]:
    """22 of them."""
    return make_video(1, 22, step=2, width=12)


@pytest.fixture(scope='session')
def make_sample() -> Callable[..., RefVOSDataSample]:
    """``make_sample(expressions, **fields)``: a data sample of one video."""

    def make(expressions: Sequence[str] = EXPRESSIONS, **fields) -> RefVOSDataSample:
        sample = RefVOSDataSample(metainfo=dict(
            dataset='toy', video_id='video', expressions=tuple(expressions),
            exp_ids=tuple(str(e) for e in range(len(expressions)))))
        sample.set_data(fields)
        return sample

    return make


@pytest.fixture(scope='session')
def make_batch(make_sample) -> Callable[..., tuple[dict, list[RefVOSDataSample]]]:
    """``make_batch(model, videos)``: inputs and data samples of training, preprocessed.

    Each video is a tuple (frames, expressions, context_frame_ids, query_frame_ids).
    """

    def one(model: GLUS, frames: Sequence[np.ndarray], expressions: Sequence[str],
            context: Sequence[int], query: Sequence[int]) -> tuple[dict, RefVOSDataSample]:
        size, crop = model.mllm.image_size, model.mllm.vision_crop
        vision = np.stack([vision_tower_image(frames[i], size, crop) for i in (*context, *query)])
        sam = torch.stack([sam2_image(frames[i], model.mask_head.image_size) for i in query])
        turns = [0] * len(query)
        texts = [build_conversation(model.mllm.tokenizer, model.mllm.template, expression,
                                    len(context), turns, turns) for expression in expressions]
        shape = (len(expressions), len(query), *frames[0].shape[:2])
        masks = torch.zeros(shape, dtype=torch.uint8)
        for e in range(len(expressions)):
            masks[e, :, 5 + 3 * e:20, 10:30] = 1
        inputs = dict(clip_imgs=torch.from_numpy(vision).permute(0, 3, 1, 2), sam_imgs=sam,
                      input_ids=[ids for ids, _ in texts], labels=[labels for _, labels in texts])
        return inputs, make_sample(expressions, gt_masks=masks)

    def make(model: GLUS, videos: Sequence[tuple]) -> tuple[dict, list[RefVOSDataSample]]:
        parts = [one(model, *video) for video in videos]
        inputs = {key: [part[key] for part, _ in parts] for key in parts[0][0]}
        data = dict(inputs=inputs, data_samples=[sample for _, sample in parts])
        data = model.data_preprocessor(data, True)
        return data['inputs'], data['data_samples']

    return make


@pytest.fixture(scope='session')
def emit_seg(make_sample) -> Callable[..., GLUS]:
    """``emit_seg(model, frames, expressions, always=True)``: let a random model say ``[SEG]``.

    All rows of the ``lm_head`` become 0 but that of ``[SEG]``: with ``always`` the mean of the
    hidden states that are met on the video, else a direction in which they differ, so that
    ``[SEG]`` comes at some of the steps only. Without it the masks of other models are empty.
    """

    def change(model: GLUS, frames: Sequence[np.ndarray],
               expressions: Sequence[str] = EXPRESSIONS, always: bool = True) -> GLUS:
        states = []
        with torch.no_grad():
            model.mllm.lm_head.weight.zero_()
        handle = model.mllm.lm_head.register_forward_pre_hook(
            lambda _, args: states.append(args[0]))
        # The official order makes logits at every position, of which one decides.
        propagator, model.propagator = model.propagator, GLUSPropagator()
        session = model.init_session(ArrayReader(frames), make_sample(expressions))
        for _ in model.segment(session):
            pass
        handle.remove()
        model.propagator = propagator
        states = torch.cat([state.flatten(0, -2) for state in states])
        mean = states.mean(0)
        row = 100 * mean
        if not always:
            row = torch.randn(mean.shape, generator=torch.Generator().manual_seed(0)).to(mean)
            row -= (row @ mean) / (mean @ mean) * mean
        said = states @ row > 0
        assert said.all() if always else 0.2 < said.double().mean() < 0.8
        with torch.no_grad():
            model.mllm.lm_head.weight[model.mllm.tokenizer.seg_id] = row
        return model

    return change


@pytest.fixture(scope='session')
def talking(make_glus, emit_seg, video) -> Callable[..., GLUS]:
    """``talking(options, dtype, always=True)``: a GLUS that says ``[SEG]`` on ``video``."""
    weights = {}

    def make(options: dict | None = None, dtype: torch.dtype = torch.float64,
             always: bool = True) -> GLUS:
        if always not in weights:
            weights[always] = emit_seg(make_glus(), video, always=always).state_dict()
        model = make_glus(options, dtype)
        model.load_state_dict(weights[always])
        return model

    return make
