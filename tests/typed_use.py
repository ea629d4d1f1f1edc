"""What a typed program sees of the package; checked by ``make lint``, never run."""

from collections.abc import Callable

import numpy as np
from typing_extensions import assert_type

from glus_mm.apis import GLUSInferencer, RefinementSession, Segmentation, init_model
from glus_mm.models.segmentors import GLUS

model = init_model('glus_tiny_moving-shapes')
assert_type(model, GLUS)
infer = GLUSInferencer(model)
out = infer('video.mp4', texts=['the red circle'])
assert_type(out, Segmentation)
assert_type(out[3:9], Segmentation)
assert_type(list(out), list[Segmentation])
assert_type(out.texts, tuple[str, ...])
assert_type(out.kept_masks()[0][5], np.ndarray | None)
assert_type(out.frame_masks(5), np.ndarray)
assert_type(infer.session('video.mp4', 'the red circle'), RefinementSession)
refine: Callable[..., list[int]] = RefinementSession.refine
