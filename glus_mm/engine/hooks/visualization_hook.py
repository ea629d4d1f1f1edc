"""Draw what was predicted while testing."""

from collections.abc import Sequence
from pathlib import Path

from mmengine.hooks import Hook
from mmengine.runner import Runner

from glus_mm.registry import HOOKS
from glus_mm.structures import RefVOSDataSample
from glus_mm.utils.frames import clip_centres
from glus_mm.utils.paths import ensure_writable_dir


@HOOKS.register_module()
class RefVOSVisualizationHook(Hook):
    """Write overlays of tested videos, ground truth left and prediction right.

    Files: ``<out_dir>/<video>/<frame>.png`` with all expressions of the video. With several
    processes the main one draws, so the folder shows its share of the videos.

    Args:
        draw: whether to draw at all; ``tools/test.py --show-dir`` switches it on.
        out_dir: folder of the overlays.
        interval: draw every so many videos.
        num_frames: frames of a video to draw, evenly spread.

    Raises:
        ValueError: ``out_dir`` is missing with ``draw=True``, or a number is below 1.
    """

    priority = 'NORMAL'

    def __init__(self, draw: bool = False, out_dir: str | None = None, interval: int = 1,
                 num_frames: int = 4) -> None:
        if draw and out_dir is None:
            raise ValueError('expected out_dir with draw=True, got None')
        if interval < 1 or num_frames < 1:
            raise ValueError(f'expected interval and num_frames of at least 1, got {interval} '
                             f'and {num_frames}')
        self.draw = draw
        self.out_dir = out_dir
        self.interval = interval
        self.num_frames = num_frames

    def before_test(self, runner: Runner) -> None:
        """Find out early whether the folder can be written.

        Args:
            runner: the runner.

        Raises:
            TypeError: the run's visualizer cannot draw data samples.
            OSError: the folder cannot be written.
        """
        if not self.draw:
            return
        ensure_writable_dir(self.out_dir)
        if not hasattr(runner.visualizer, 'draw_frame'):
            raise TypeError('expected visualizer=dict(type="RefVOSLocalVisualizer"), got '
                            f'{type(runner.visualizer).__name__}')

    def after_test_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None,
                        outputs: Sequence[RefVOSDataSample] | None = None) -> None:
        """Draw the videos of a batch.

        Args:
            runner: the runner.
            batch_idx: position of the batch in the test.
            data_batch: holds the frame readers under ``inputs.reader``.
            outputs: (B) data samples with ``pred_masks``.
        """
        if not self.draw or batch_idx % self.interval:
            return
        for reader, sample in zip(data_batch['inputs']['reader'], outputs):
            for t in sorted(set(clip_centres(len(reader), self.num_frames))):
                runner.visualizer.add_datasample(
                    sample.video_id, reader.read(t), sample, frame_idx=t,
                    out_file=Path(self.out_dir) / sample.video_id
                    / f'{sample.frame_names[t]}.png')
