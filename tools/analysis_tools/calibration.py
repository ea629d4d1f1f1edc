"""How far the scores of a model can be trusted, and which threshold of presence to use.

Reads what ``tools/test.py --dump`` writes, and prints

- how well the probability of [SEG], the presence, tells whether a frame shows the object: its
  expected calibration error (ECE) over all frames, of expressions without a target too;
- how the IoU that the mask decoder expects goes with the true one (J), over the frames that show
  the object and have a mask: their rank correlation (Spearman) and mean difference;
- the threshold of presence that keeps T-acc at its goal with the best N-acc, and both at it.
  T-acc and N-acc are those of the protocols: an expression is found if any frame has a mask.

Choose the threshold on another data set than the one that is reported, then test with it
(``--cfg-options model.test_cfg.seg_threshold=...``): masks, memories and, with
existence='answer', histories depend on it. A frame without [SEG] in the dump is taken to have a
mask as soon as the threshold lets it.

Example::

    python tools/analysis_tools/calibration.py outputs/test.json --out-dir outputs/calibration
"""

import argparse
import math

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from glus_mm.utils.command_line import refuse
from glus_mm.utils.json_file import read_json_object, write_json
from glus_mm.utils.paths import ensure_writable_dir

NUM_BINS = 15
FIELDS = ('J', 'presence', 'expected_iou', 'seg', 'visible', 'painted')


def read_frames(path: str) -> list[dict]:
    """Read the figures of the frames.

    Args:
        path: a document of ``tools/test.py --dump``.

    Returns:
        For each expression ``has_target``, and an array (T) for each of :data:`FIELDS`.

    Raises:
        OSError: the file cannot be read.
        ValueError: it holds no such figures.
    """
    document = read_json_object(path)
    wanted = 'expected what tools/test.py --dump writes of the expressions of a GLUS model'
    if not document.get('per_frame') or 'per_expression' not in document:
        raise ValueError(f'{path}: {wanted}, got a file without per_frame and per_expression')
    rows = []
    for key, frames in document['per_frame'].items():
        missing = [name for name in FIELDS if name not in frames]
        if missing:
            raise ValueError(f'{path}, per_frame, {key!r}: {wanted}, got none of {missing}')
        rows.append(dict({name: np.array(frames[name]) for name in FIELDS},
                         has_target=document['per_expression'][key]['has_target']))
    return rows


def reliability(scores: np.ndarray, true: np.ndarray) -> tuple[float, np.ndarray]:
    """Expected calibration error over equally wide bins of the scores.

    Args:
        scores: (n) in 0..1.
        true: (n), what they should be on average.

    Returns:
        The error; and for each bin how many fall into it, the mean score and the mean truth,
        (15, 3).
    """
    place = np.minimum((scores * NUM_BINS).astype(int), NUM_BINS - 1)
    bins = np.zeros((NUM_BINS, 3))
    for b in np.unique(place):
        inside = place == b
        bins[b] = inside.sum(), scores[inside].mean(), true[inside].mean()
    return float((bins[:, 0] * np.abs(bins[:, 1] - bins[:, 2])).sum() / len(scores)), bins


def choose_threshold(rows: list[dict], t_acc: float) -> dict[str, float]:
    """Find the highest threshold of presence that keeps T-acc at its goal, so with the best N-acc.

    Args:
        rows: what :func:`read_frames` returned.
        t_acc: the goal, 0..1.

    Returns:
        ``threshold``, and ``T-acc`` and ``N-acc`` (where there are expressions without a target) in
        percent; nothing where no threshold reaches the goal, or there are no targets.
    """
    found = {True: [], False: []}
    for row in rows:
        # A [SEG] with an empty mask paints nothing, whatever the threshold.
        can = (row['seg'] == 0) | (row['painted'] > 0)
        found[row['has_target']].append(np.max(row['presence'][can], initial=-1))
    targets = np.sort(found[True])[::-1]
    needed = math.ceil(t_acc * len(targets) - 1e-9)
    if not len(targets) or targets[max(needed, 1) - 1] < 0:
        return {}
    threshold = math.floor(targets[max(needed, 1) - 1] * 1e6) / 1e6
    figures = {'threshold': threshold, 'T-acc': 100 * float((targets >= threshold).mean())}
    if found[False]:
        figures['N-acc'] = 100 * float((np.array(found[False]) < threshold).mean())
    return figures


def plot(presence: np.ndarray, iou: np.ndarray | None) -> Figure:
    """Draw reliability: what was said against what was true, and how often it was said.

    Args:
        presence: bins of :func:`reliability`.
        iou: likewise; None leaves it out.
    """
    panels = [(presence, 'probability of [SEG]', 'frames that show the object')]
    if iou is not None:
        panels.append((iou, 'expected IoU', 'true IoU'))
    figure = Figure(figsize=(5 * len(panels), 5), layout='constrained')
    for axes, (bins, said, true) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels):
        axes.bar((np.arange(NUM_BINS) + 0.5) / NUM_BINS, bins[:, 0] / bins[:, 0].sum(),
                 1 / NUM_BINS, color='#dddddd', label='share of the frames')
        axes.plot([0, 1], [0, 1], color='#777777', linestyle='--', linewidth=1)
        used = bins[:, 0] > 0
        axes.plot(bins[used, 1], bins[used, 2], color='#0072b2', marker='o', markersize=4,
                  label='mean of a bin')
        axes.legend(loc='upper left', fontsize=8)
        axes.set(xlabel=said, ylabel=true, xlim=(0, 1), ylim=(0, 1), aspect='equal')
    return figure


def main() -> None:
    """Print the figures, write them and the plot where asked to."""
    parser = argparse.ArgumentParser(
        description='Calibration of the scores in a dump of tools/test.py')
    parser.add_argument('dump', metavar='DUMP.json')
    parser.add_argument('--t-acc', type=float, default=97.0, metavar='PERCENT',
                        help='what T-acc must reach at the threshold (%(default)s)')
    parser.add_argument('--out-dir', metavar='D',
                        help='write calibration.json and reliability.png into this folder')
    args = parser.parse_args()
    if not 0 < args.t_acc <= 100:
        parser.error(f'--t-acc: expected a number above 0, at most 100, got {args.t_acc}')
    with refuse(parser):
        rows = read_frames(args.dump)
        out_dir = None if args.out_dir is None else ensure_writable_dir(args.out_dir)
    frames = {name: np.concatenate([row[name] for row in rows]) for name in FIELDS}
    error, presence_bins = reliability(frames['presence'], frames['visible'])
    figures = dict(frames=len(frames['J']), presence_ece=error)
    print(f'presence: ECE {error:.4f} over {figures["frames"]} frames, of which '
          f'{100 * frames["visible"].mean():.1f} % show the object')
    masked = (frames['visible'] > 0) & (frames['painted'] > 0)
    expected, true = frames['expected_iou'][masked], frames['J'][masked]
    iou_bins = None
    if masked.any() and np.ptp(expected) > 0 and np.ptp(true) > 0:
        _, iou_bins = reliability(expected.clip(0, 1), true)
        figures.update(iou_frames=int(masked.sum()),
                       iou_spearman=float(spearmanr(expected, true).statistic),
                       iou_difference=float(np.abs(expected - true).mean()))
        print(f'expected IoU: Spearman {figures["iou_spearman"]:.3f}, mean difference '
              f'{figures["iou_difference"]:.3f} over {figures["iou_frames"]} frames')
    else:
        print('expected IoU: no frames that show the object and have masks of different IoU')
    chosen = choose_threshold(rows, args.t_acc / 100)
    figures.update(chosen)
    if chosen:
        print(f'threshold {chosen["threshold"]:.6f}: T-acc {chosen["T-acc"]:.2f}, '
              + (f'N-acc {chosen["N-acc"]:.2f}' if 'N-acc' in chosen else
                 'and no expression without a target'))
    else:
        print(f'threshold: none reaches T-acc {args.t_acc:g}')
    if out_dir is not None:
        write_json(out_dir / 'calibration.json', figures)
        plot(presence_bins, iou_bins).savefig(out_dir / 'reliability.png', dpi=120)
        print(f'wrote {out_dir / "calibration.json"} and {out_dir / "reliability.png"}')


if __name__ == '__main__':
    main()
