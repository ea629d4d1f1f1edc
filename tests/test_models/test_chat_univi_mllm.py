"""ChatUniViMLLM: frames, videos, gradients, and wrong configs."""

import pytest
import torch

from glus_mm.models import GLUS
from glus_mm.models.inference import ArrayReader
from glus_mm.models.mllms.token_clustering import merge_frames, merge_video
from glus_mm.registry import MODELS, build_child

SIZES = dict(
    vision_tower=dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
                      intermediate_size=32, image_size=16, patch_size=4),
    llm=dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
             max_position_embeddings=1024, initializer_range=0.5))
COUNTS = (8, 4, 2)


def build(seed=0, **options):
    torch.manual_seed(seed)
    cfg = dict(SIZES, spatial_clusters=COUNTS) | options
    return build_child(MODELS, dict(type='ChatUniViMLLM', seg_dim=8, **cfg))


@pytest.fixture(scope='module')
def mllm():
    """In float64."""
    return build().double().eval()


@pytest.fixture(scope='module')
def imgs():
    return torch.randn(
        7, 3, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def patches(mllm, imgs):
    """What the tower gives, by another way than the class goes."""
    hidden = mllm.vision_tower(imgs, output_hidden_states=True).hidden_states
    return hidden[-2][:, 1:]


def test_frames_are_merged_level_by_level(mllm, imgs):
    tokens = mllm.encode_images(imgs)
    assert tokens.shape == (7, 14, 32) and mllm.tokens_per_image == 14
    expected = mllm.projector(torch.cat(merge_frames(patches(mllm, imgs), COUNTS), 1))
    torch.testing.assert_close(tokens, expected, rtol=0, atol=1e-12)
    together = mllm.encode_images(imgs)
    for i in range(len(imgs)):
        torch.testing.assert_close(
            mllm.encode_images(imgs[i:i + 1])[0], together[i], rtol=0, atol=1e-12)
    tower = dict(SIZES['vision_tower'], image_size=32, patch_size=2)
    mllm = build(vision_tower=tower, spatial_clusters=(64, 32, 16))
    assert mllm.tokens_per_image == 112
    assert mllm.encode_images(torch.randn(1, 3, 32, 32)).shape == (1, 112, 32)
    assert mllm.encode_video(torch.randn(17, 3, 32, 32)).shape == (224, 32)


def test_a_video_is_merged_by_events(mllm, imgs):
    tokens = mllm.encode_video(imgs)
    assert tokens.shape == (14, 32)  # one event up to 16 frames
    expected = mllm.projector(merge_video(patches(mllm, imgs), COUNTS, 1 / 16))
    torch.testing.assert_close(tokens, expected, rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match='at least one frame'):
        mllm.encode_video(imgs[:0])
    frames = torch.randn(40, 3, 16, 16, generator=torch.Generator().manual_seed(1)).double()
    expected = mllm.projector(merge_video(patches(mllm, frames), COUNTS, 1 / 16))
    torch.testing.assert_close(mllm.encode_video(frames), expected, rtol=0, atol=1e-12)


def test_names_and_settings(mllm):
    llava = build_child(MODELS, dict(type='LlavaMLLM', seg_dim=8, pooling='none', **SIZES))
    names = {name: value.shape for name, value in llava.state_dict().items()}
    assert {name: value.shape for name, value in mllm.state_dict().items()} == names
    with pytest.raises(TypeError, match='pooling'):
        build(pooling='2x2')


def test_gradients_and_types(imgs):
    mllm = build().double()
    mllm.encode_images(imgs[:2]).square().sum().backward()
    assert mllm.projector.weight.grad.abs().sum() > 0
    used = mllm.vision_tower.state_dict().keys()
    layer = next(name for name in used if 'layers.0.mlp.fc1.weight' in name)
    assert mllm.vision_tower.get_parameter(layer).grad.abs().sum() > 0
    mllm = build().bfloat16()
    tokens = mllm.encode_images(imgs.float())
    assert tokens.dtype == torch.bfloat16
    assert mllm.encode_video(imgs.float()).dtype == torch.bfloat16


def test_glus_runs_on_it(tiny_cfg, make_sample, video):
    cfg = tiny_cfg({'test_cfg.num_context': 2, 'test_cfg.window': 2})
    cfg['mllm'] = dict(type='ChatUniViMLLM', spatial_clusters=COUNTS, template='compact', **SIZES)
    torch.manual_seed(0)
    model = build_child(MODELS, cfg).eval()
    assert isinstance(model, GLUS)
    sample = model.predict(dict(reader=[ArrayReader(video)]), [make_sample(('the star', ))])[0]
    assert sample.pred_scores.shape == (1, len(video))


@pytest.mark.parametrize('options, message', [
    (dict(spatial_clusters=(64, 32, 16)), 'the 16 patches of a frame'),
    (dict(spatial_clusters=(8, 9, 2)), 'none larger than the one before'),
    (dict(spatial_clusters=(8, 4)), '3 integers'),
    (dict(spatial_clusters=(8, 0.5, 2)), '3 integers'),
    (dict(temporal_cluster_rate=0), r'in \(0, 1\], got 0'),
    (dict(temporal_cluster_rate=16), r'in \(0, 1\], got 16')])
def test_wrong_settings_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)
