"""The picture of the README is what dev/make_teaser.py makes."""

import importlib.util
from pathlib import Path

import numpy as np
from PIL import Image

from glus_mm.datasets.moving_shapes import generate_video

ROOT = Path(__file__).resolve().parents[2]
TEASER = ROOT / 'docs' / 'images' / 'teaser.gif'


def load_tool():
    path = ROOT / 'dev' / 'make_teaser.py'
    spec = importlib.util.spec_from_file_location('make_teaser', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_picture_shows_the_drawn_videos():
    tool = load_tool()
    indices = tool.draw_videos(np.random.default_rng(0))
    videos = [generate_video(tool.SEED, tool.SPLIT, index) for index in indices]
    assert TEASER.stat().st_size < 600_000
    with Image.open(TEASER) as gif:
        assert gif.n_frames == len(videos[0].frames) == 12
        first = np.asarray(gif.convert('RGB')).astype(int)
    # The left upper corner of every panel is ground of its video: no mask reaches there.
    panel = first.shape[1] // len(videos)
    for i, video in enumerate(videos):
        left = i * panel + tool.GAP
        shown = first[tool.GAP + 2:tool.GAP + 12, left:left + 10].mean((0, 1))
        assert np.abs(shown - video.frames[0][:4, :4].mean((0, 1))).max() < 20
