"""SAM-2 carries GLUS's mask of the key frame: equal to the stock predictor, in bounded memory."""

import copy

import cv2
import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch.nn import functional as F

from glus_mm.models.heads.sam2_arch import build_sam2, sam2_sizes
from glus_mm.models.inference import ArrayReader
from glus_mm.models.propagators import SAM2Propagator
from glus_mm.utils.masks import decode_rle

SIDE, LENGTH = 64, 24
SIZES = dict(embed_dim=8, stages=(1, 1, 2, 1), global_att_blocks=(3, ), d_model=32, mem_dim=16,
             num_memory_layers=1, ffn_dim=32, dropout=0.0, layer_scale=0.3)
# What sam2.1's configs add.
V21 = dict(no_obj_embed_spatial=True, add_tpos_enc_to_obj_ptrs=True,
           proj_tpos_enc_in_obj_ptrs=True, use_signed_tpos_enc_to_obj_ptrs=True)
OWN = 'test_cfg.propagator'
ONE_ARCH = pytest.mark.parametrize('arch', ['2.1'], indirect=True)


@pytest.fixture(scope='module')
def frames():
    """(64, 64), so that SAM-2's input is the frame itself."""
    rng = np.random.default_rng(1)
    video = rng.integers(0, 120, (LENGTH, SIDE, SIDE, 3), dtype=np.uint8)
    for i, frame in enumerate(video):
        frame[10:34, 2 * i:2 * i + 16] = (250, 9 * i, 30)
    return list(video)


@pytest.fixture(scope='module', params=['2', '2.1'])
def arch(request, tmp_path_factory):
    """A YAML file, weights that fit, and the stock predictor that has them."""
    folder = tmp_path_factory.mktemp('sam2')
    model = dict(sam2_sizes(**SIZES), **(V21 if request.param == '2.1' else {}))
    OmegaConf.save(OmegaConf.create(dict(model=model)), folder / 'arch.yaml')
    torch.manual_seed(3)
    sam = build_sam2(str(folder / 'arch.yaml'), SIDE)
    with torch.no_grad():
        for name, parameter in sam.named_parameters():
            if name.endswith(('no_mem_embed', 'bias', 'maskmem_tpos_enc')):
                parameter.normal_(std=0.3)
        # Objects come and go.
        sam.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(0.2)
    torch.save(dict(model=sam.state_dict()), folder / 'weights.pt')
    stock = dict(
        model, _target_='sam2.sam2_video_predictor.SAM2VideoPredictor', image_size=SIDE,
        binarize_mask_from_pts_for_mem_enc=True,
        sam_mask_decoder_extra_args=dict(
            dynamic_multimask_via_stability=True, dynamic_multimask_stability_delta=0.05,
            dynamic_multimask_stability_thresh=0.98))
    predictor = instantiate(OmegaConf.create(stock), _recursive_=True).eval()
    predictor.load_state_dict(sam.state_dict())
    return folder, predictor


@pytest.fixture(scope='module')
def glus(make_glus, emit_seg, frames):
    """``glus(options)``: a GLUS that always says [SEG], float32."""
    weights = emit_seg(make_glus(), frames).state_dict()

    def make(options=None):
        model = make_glus(options)
        model.load_state_dict(weights)
        return model.float().prepare()

    return make


def own(folder, **options):
    return {OWN: dict(type='SAM2Propagator', sam2=str(folder / 'arch.yaml'),
                      checkpoint=str(folder / 'weights.pt'), image_size=SIDE, **options)}


def run(model, video, sample, key_frames):
    """{(expression, frame): prediction of one expression}; every frame comes once."""
    session = model.init_session(ArrayReader(video), sample)
    out = {}
    with torch.inference_mode():
        for t, exps, pred in model.segment(session, key_frames):
            for i, e in enumerate(exps):
                assert (e, t) not in out, 'a frame came twice'
                out[e, t] = {name: getattr(pred, name)[i] for name in (
                    'masks', 'low_res_logits', 'seg_tokens', 'is_seg', 'scores')}
    assert len(out) == len(sample) * len(video)
    return out


def stock_logits(predictor, video, masks, key, folder):
    """Logits (n, T, H, W) of the stock predictor, forward and then backward."""
    folder.mkdir()
    for i, frame in enumerate(video):
        data = cv2.imencode('.png', cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))[1]
        (folder / f'{i}.jpg').write_bytes(data.tobytes())  # without loss; PIL looks at the content
    state = predictor.init_state(str(folder))
    for i, mask in enumerate(masks):
        predictor.add_new_mask(state, key, i, mask)
    out = torch.full((len(masks), len(video), SIDE, SIDE), torch.nan)
    for reverse in (False, True):
        for t, _, logits in predictor.propagate_in_video(state, key, reverse=reverse):
            out[:, t] = logits[:, 0]
    return out


def test_equals_the_stock_predictor(arch, glus, frames, make_sample, tmp_path):
    """Both directions from frame 9, further than the pointers (15) and memories (6) reach."""
    folder, predictor = arch
    model, sample = glus(own(folder)), make_sample()
    got = run(model, frames, sample, [9, 9, 9])
    masks = torch.stack([got[e, 9]['masks'] for e in range(3)])
    want = stock_logits(predictor, frames, masks, 9, tmp_path / 'frames')
    seen = 0
    for (e, t), pred in got.items():
        if t == 9:
            continue
        logits = F.interpolate(pred['low_res_logits'][None, None], (SIDE, SIDE), mode='bilinear',
                               align_corners=False)[0, 0]
        torch.testing.assert_close(logits, want[e, t], rtol=1e-3, atol=1e-3)
        assert (pred['masks'] == (want[e, t] > 0)).float().mean() > 0.999
        seen += bool(pred['masks'].any())
        assert 0 <= pred['scores'] <= 1
    assert seen > 30
    assert want[:, 20].amax() > -100 and (want[:, 20] - want[:, 21]).abs().max() > 1e-2


@ONE_ARCH
def test_groups_of_key_frames_and_chunks_change_nothing(arch, glus, frames, make_sample):
    folder, _ = arch
    sample, frames = make_sample(), frames[:9]
    together = run(glus(own(folder)), frames, sample, [3, 6, 3])
    chunks = run(glus({**own(folder), 'test_cfg.max_expressions': 1}), frames, sample, [3, 6, 3])
    for e, key in enumerate([3, 6, 3]):
        alone = run(glus(own(folder)), frames, make_sample([sample.expressions[e]]), [key])
        for t in range(9):
            for name, value in alone[0, t].items():
                for other in (together, chunks):
                    torch.testing.assert_close(other[e, t][name], value, rtol=1e-3, atol=1e-3)


@ONE_ARCH
def test_the_key_frame_and_features(arch, glus, frames, make_sample):
    folder, _ = arch
    sample = make_sample()
    tracked = run(glus(own(folder)), frames[:4], sample, [1, 1, 1])
    alone = run(glus(), frames[:4], sample, [1, 1, 1])
    for e in range(3):
        assert torch.equal(tracked[e, 1]['masks'], alone[e, 1]['masks'])
        assert torch.equal(tracked[e, 0]['seg_tokens'], alone[e, 1]['seg_tokens'])
        assert not torch.equal(tracked[e, 3]['masks'], alone[e, 3]['masks'])
    model = glus(own(folder))
    counted = []
    session = model.init_session(ArrayReader(frames[:6]), make_sample())
    network, = model.propagator.networks
    network.sam2.image_encoder.register_forward_hook(lambda *_: counted.append(1))
    assert len(list(model.segment(session, [2, 2, 2]))) == len(counted) == 6


@ONE_ARCH
def test_memory_is_bounded(arch, glus, frames, make_sample):
    """Also in a video that is much longer than what the memories and pointers reach."""
    folder, _ = arch
    model = glus(own(folder))
    session = model.init_session(ArrayReader(frames), make_sample())
    tracker = model.propagator.tracker(model, session)
    feats, tracker.num_frames = tracker.features(0), 70
    tracker.features = lambda frame_idx: feats
    state = tracker.start(30, torch.ones(2, SIDE, SIDE, dtype=torch.bool))
    most = [0, 0]
    for t in [*range(31, 70), *range(29, -1, -1)]:
        tracker.track(t, state, reverse=t < 30)
        entries = state['non_cond_frame_outputs'].values()
        memories = sum(entry['maskmem_features'] is not None for entry in entries)
        most = [max(most[0], len(entries)), max(most[1], memories)]
    assert most == [31, 13]  # and the key frame's own


@ONE_ARCH
def test_its_weights_are_no_part_of_glus(arch, glus, frames, make_sample):
    folder, _ = arch
    plain, model = glus(), glus(own(folder))
    run(model, frames[:3], make_sample(), [0, 0, 0])
    assert model.state_dict().keys() == plain.state_dict().keys()
    assert len(list(model.parameters())) == len(list(plain.parameters()))
    model.load_state_dict(plain.state_dict())
    network, = model.propagator.networks
    assert network.sam2 is not model.mask_head.sam2
    model.to(torch.float64)
    assert next(network.parameters()).dtype == torch.float64, 'it goes where GLUS goes'
    assert model.prepare().propagator.networks == (network, ), 'and is loaded once'


def test_that_of_the_mask_head(glus, frames, make_sample):
    model = glus({OWN: dict(type='SAM2Propagator', use_pointers=False, use_object_scores=False)})
    before = copy.deepcopy(model.state_dict())
    sam = model.mask_head.sam2
    out = run(model, frames[:5], make_sample(), [3, 3, 3])
    assert sam.use_obj_ptrs_in_encoder and sam.pred_obj_scores
    assert not sam.binarize_mask_from_pts_for_mem_enc
    assert not sam.sam_mask_decoder._forward_hooks
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert any(pred['masks'].any() for (_, t), pred in out.items() if t != 3)
    # With GLUS, between expressions, and between both directions where key frames differ.
    model = glus({OWN: dict(type='SAM2Propagator')})
    counted = []
    model.mask_head.sam2.image_encoder.register_forward_hook(lambda *_: counted.append(1))
    run(model, frames[:6], make_sample(), [1, 4, 4])
    assert len(counted) == 6


def test_types_and_silence(make_glus, emit_seg, frames, make_sample):
    model = make_glus({OWN: dict(type='SAM2Propagator', use_object_scores=False),
                       'dtype': 'bfloat16', 'mllm.trainable': [], 'mask_head.trainable': []},
                      torch.float32)
    weights = emit_seg(make_glus(), frames).state_dict()
    model.load_state_dict(weights)
    model.mask_head.sam2.to(torch.bfloat16)
    for name, buffer in model.mask_head.sam2.named_buffers():
        buffer.data = weights[f'mask_head.sam2.{name}'].float()
    out = run(model, frames[:5], make_sample(), [2, 2, 2])
    assert all(pred['low_res_logits'].dtype == torch.float32 for pred in out.values())
    assert all(pred['scores'].isfinite() for pred in out.values())
    # Random weights never say [SEG]: nothing to carry, so all is empty and every score is 0.
    model = make_glus({OWN: dict(type='SAM2Propagator')}).float()
    out, = model.predict(dict(reader=[ArrayReader(frames[:4])]), [make_sample()])
    assert not any(decode_rle(rle).any() for rles in out.pred_masks for rle in rles)
    assert not out.pred_scores.any() and not out.pred_seg.any()


@ONE_ARCH
def test_an_empty_mask_beside_others(arch, glus, frames, make_sample):
    folder, _ = arch
    model = glus(own(folder))
    key = model.propagate

    def without_the_second(session, exps, start=0, reverse=False):
        for t, pred in key(session, exps, start, reverse):
            pred.masks[1] = False
            yield t, pred

    model.propagate = without_the_second
    out = run(model, frames[:6], make_sample(), [2, 2, 2])
    assert not any(out[1, t]['masks'].any() or out[1, t]['scores'] for t in range(6))
    assert all(out[0, t]['masks'].any() for t in (2, 3))


@pytest.mark.parametrize(('options', 'error', 'message'), [
    (dict(sam2='sam2_hiera_l'), ValueError, 'both or neither of .*sam2 and .checkpoint'),
    (dict(checkpoint='x.pt'), ValueError, 'both or neither'),
    (dict(sam2='sam2_hiera_x', checkpoint='x.pt'), FileNotFoundError, 'sam2_hiera_x'),
    (dict(sam2=dict(width=3), checkpoint='x.pt'), TypeError, 'width'),
    (dict(sam2='sam2_hiera_l', checkpoint='none/such.pt'), FileNotFoundError,
     'model.test_cfg.propagator.checkpoint, but there is no file none/such.pt')])
def test_bad_options(options, error, message):
    with pytest.raises(error, match=message):
        SAM2Propagator(**options)


def test_weights_of_another_sam2(arch, glus, frames, make_sample, tmp_path):
    folder, predictor = arch
    other = '2' if predictor.no_obj_embed_spatial is not None else '2.1'
    model = dict(sam2_sizes(**SIZES), **(V21 if other == '2.1' else {}))
    OmegaConf.save(OmegaConf.create(dict(model=model)), tmp_path / 'arch.yaml')
    propagator = dict(own(folder)[OWN], sam2=str(tmp_path / 'arch.yaml'))
    with pytest.raises(ValueError, match='no_obj_embed_spatial'):
        run(glus({OWN: propagator}), frames[:2], make_sample(), [0, 0, 0])
