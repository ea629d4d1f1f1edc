"""Show a model a video, or ask for an object, that tells whether it uses motion and words."""

from mmcv.transforms import BaseTransform

from glus_mm.registry import TRANSFORMS
from glus_mm.utils.checked import checked
from glus_mm.utils.frames import PROBES
from glus_mm.video import ReorderedReader


@TRANSFORMS.register_module()
class ProbeVideo(BaseTransform):
    """Change a test sample as the probes of motion in PixFoundation 2.0 do (arXiv 2509.02807).

    The truth follows the pictures, so that J&F says what the change costs:

    - ``'still'``: the frame in the middle of the video at every position, and its truth. What is
      right of a motion expression here was found without motion.
    - ``'reverse'``: the video backward, frames with their names and their truth: every picture
      keeps its target, although "moving left" is now said of an object that moves right. A model
      that uses motion loses the expressions about directions and keeps the others.
    - ``'shuffle'``: the context frames in another order, drawn for each video; query frames and
      truth stay.
    - ``'swap'``: each expression is asked for by the words of another one of the video with which
      it shares no object, drawn at random, and scored against its own target: what is right here
      was found without words. Expressions without a target, or without such another one, are left
      out.

    Required keys: ``reader``, ``gt_rles``, ``expressions``, ``frame_names``, ``rng``. Modified: the
    first four. It stands behind the transforms that load, before ``PackRefVOSInputs``.

    Args:
        probe: one of the above.

    Raises:
        ValueError: there is no such probe, or the data set has no masks.
    """

    def __init__(self, probe: str) -> None:
        checked(PROBES, probe=probe)
        self.probe = probe

    def transform(self, results: dict) -> dict:
        """Change; see the class."""
        if 'gt_rles' not in results:
            raise ValueError(f'the probe {self.probe!r} needs masks: expected gt_rles of video '
                             f'{results["video_id"]!r}, got a data set without ground truth')
        if self.probe == 'swap':
            return self._swap(results)
        frames = list(range(len(results['frame_names'])))
        seed = None
        if self.probe == 'still':
            frames = [len(frames) // 2] * len(frames)
        elif self.probe == 'reverse':
            frames.reverse()
            results['frame_names'] = results['frame_names'][::-1]
        else:
            seed = int(results['rng'].integers(2**32))
        results['reader'] = ReorderedReader(results['reader'], frames, seed)
        results['gt_rles'] = [[rles[t] for t in frames] for rles in results['gt_rles']]
        return results

    def _swap(self, results: dict) -> dict:
        expressions, kept, asked = results['expressions'], [], []
        for e, expression in enumerate(expressions):
            own = set(expression['object_ids'])
            others = [other for other in expressions
                      if own and other['object_ids'] and own.isdisjoint(other['object_ids'])]
            if others:
                kept.append(e)
                asked.append(others[int(results['rng'].integers(len(others)))]['exp'])
        results['expressions'] = [dict(expressions[e], exp=text) for e, text in zip(kept, asked)]
        results['gt_rles'] = [results['gt_rles'][e] for e in kept]
        return results
