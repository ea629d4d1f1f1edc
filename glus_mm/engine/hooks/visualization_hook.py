"""Draw what was predicted while testing."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner

from glus_mm.registry import HOOKS
from glus_mm.structures import RefVOSDataSample
from glus_mm.utils.checked import checked
from glus_mm.utils.frames import clip_centres
from glus_mm.utils.paths import ensure_writable_dir
from glus_mm.visualization.local_visualizer import gt_masks_of, pred_masks_of, write_image


@HOOKS.register_module()
class RefVOSVisualizationHook(Hook):
    """Write overlays of tested videos, ground truth left and prediction right.

    Files: ``<out_dir>/<video>/<frame>.png`` with all expressions of the video. Without a folder
    the pictures go to the visualizer's backends, such as TensorBoard. With several processes the
    main one draws, so the folder shows its share of the videos.

    Args:
        draw: whether to draw at all; ``tools/test.py --show-dir`` switches it on.
        out_dir: folder of the overlays; None hands them to the backends, under the name of the
            video and with the position of the frame as their step.
        interval: draw every so many videos.
        num_frames: frames of a video to draw, evenly spread.
        draw_errors: in the folder write ``<video>/errors/<expression id>/<frame>.png``, too, in
            the colours of :data:`glus_mm.visualization.ERROR_COLORS`.

    Raises:
        ValueError: ``draw_errors`` without a folder, or a number is below 1.
    """

    priority = 'NORMAL'

    def __init__(self, draw: bool = False, out_dir: str | None = None, interval: int = 1,
                 num_frames: int = 4, draw_errors: bool = False) -> None:
        if draw_errors and out_dir is None and draw:
            raise ValueError('expected out_dir with draw_errors=True, got None')
        checked(1, interval=interval, num_frames=num_frames)
        self.draw = draw
        self.out_dir = out_dir
        self.interval = interval
        self.num_frames = num_frames
        self.draw_errors = draw_errors

    def before_test(self, runner: Runner) -> None:
        """Find out early whether the folder can be written.

        Raises:
            TypeError: the run's visualizer cannot draw data samples.
            ValueError: there is neither a folder nor a backend.
            OSError: the folder cannot be written.
        """
        if not self.draw:
            return
        if self.out_dir is not None:
            ensure_writable_dir(self.out_dir)
        if not hasattr(runner.visualizer, 'draw_frame'):
            raise TypeError('expected visualizer=dict(type="RefVOSLocalVisualizer"), got '
                            f'{type(runner.visualizer).__name__}')
        if self.out_dir is None and not runner.visualizer._vis_backends:
            raise ValueError('expected out_dir, or a visualizer with vis_backends, to draw to')

    def after_test_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None,
                        outputs: Sequence[RefVOSDataSample] | None = None) -> None:
        """Draw the videos of a batch.

        Args:
            batch_idx: position of the batch in the test.
            data_batch: holds the frame readers under ``inputs.reader``.
            outputs: (B) data samples with ``pred_masks``.
        """
        if not self.draw or batch_idx % self.interval:
            return
        for reader, sample in zip(data_batch['inputs']['reader'], outputs):
            for t in sorted(set(clip_centres(len(reader), self.num_frames))):
                image, name = reader.read(t), f'{sample.frame_names[t]}.png'
                folder = None if self.out_dir is None else Path(self.out_dir) / sample.video_id
                runner.visualizer.add_datasample(
                    sample.video_id, image, sample, frame_idx=t, step=t,
                    out_file=None if folder is None else folder / name)
                if self.draw_errors:
                    self._write_errors(runner, image, sample, t, folder / 'errors')

    @master_only
    def _write_errors(self, runner: Runner, image: np.ndarray, sample: RefVOSDataSample,
                      frame_idx: int, folder: Path) -> None:
        truth, found = gt_masks_of(sample, frame_idx), pred_masks_of(sample, frame_idx)
        if truth is None or found is None:
            return
        for exp_id, text, gt, pred in zip(sample.exp_ids, sample.expressions, truth, found):
            name = f'{sample.frame_names[frame_idx]}.png'
            write_image(folder / exp_id / name,
                        runner.visualizer.draw_errors(image, gt, pred, text))
