"""Does a model follow directions of motion: the same pictures of MovingShapes, shown backward.

Backward, an object that moves left moves right. A model that uses motion turns to another object
then: "the circle moving left" is now the circle that moved right. Cases are expressions about a
direction whose noun ("the circle", "the red shape") also names an object that moves the opposite
way. In a case the model *turns* if its masks overlap that object (or those objects) more when the
video is shown backward; the overlap is the mean IoU over the frames that show the object. A model
that goes by looks or by chance turns in half of the cases at most.

``tools/test.py --out D --probe reverse`` writes both kinds of masks, D and D_reverse; those of a
picture have the same name in both. Directions are read from ``objects.json`` of the split.

Example::

    python tools/test.py CONFIG CHECKPOINT --out outputs/masks --probe reverse
    python dev/moving_shapes_reversal.py data/moving_shapes/valid_u \\
        --pred outputs/masks --reversed-pred outputs/masks_reverse
"""

import argparse
import json
import re
from collections.abc import Sequence

import numpy as np
from moving_shapes_shortcuts import Video, load_videos

from glus_mm.evaluation.bootstrap import cluster_mean
from glus_mm.utils.command_line import refuse
from glus_mm.utils.paths import ensure_writable_file

OPPOSITE = {'left': 'right', 'right': 'left', 'up': 'down', 'down': 'up'}
_DIRECTED = re.compile(r'the (.+?) (?:moving|that moves) (left|right|up|down)')
FOLDERS = ('forward', 'backward')


def find_opposite(text: str, objects: Sequence[dict]) -> list[int]:
    """Objects that the noun of an expression names and that move the opposite way.

    Args:
        text: the expression; one without a direction has none.
        objects: of the video, as ``objects.json`` has them.

    Returns:
        Their positions in ``objects``.
    """
    found = _DIRECTED.fullmatch(text)
    if found is None:
        return []
    *colour, shape = found[1].split()
    return [i for i, item in enumerate(objects)
            if shape in ('shape', item['shape']) and (not colour or item['colour'] == colour[0])
            and item['motion'] == OPPOSITE[found[2]]]


def cases_of(video: Video, folders: Sequence[str]) -> list[dict]:
    """The cases of a video: an expression and, as it is and backward, its masks' mean IoU with
    the objects that move the opposite way.

    Args:
        video: its annotation.
        folders: of the masks on the video as it is, and backward.

    Raises:
        FileNotFoundError: a mask is missing.
        ValueError: one is no mask of this video.
    """
    cases = []
    for exp_id, item in video.expressions.items():
        opposite = find_opposite(item['exp'], video.objects)
        if not opposite:
            continue
        case, true = dict(video_id=video.video_id, exp_id=exp_id, text=item['exp']), \
            video.target(opposite)
        seen = true.any((1, 2))
        for name, folder in zip(FOLDERS, folders):
            pred, shown = video.predicted(folder, exp_id)[seen], true[seen]
            case[name] = float(((pred & shown).sum((1, 2)) / (pred | shown).sum((1, 2))).mean())
        cases.append(case)
    return cases


def share_of_turns(cases: Sequence[dict]) -> dict[str, float | None]:
    """Share of the cases in which the model turns, with its 95 % interval over videos.

    Returns:
        'cases', 'videos', 'turns', 'low' and 'high' (shares in percent; the latter None where
        videos are too few), and the mean overlaps 'forward' and 'backward' in percent.

    Raises:
        ValueError: there is no case.
    """
    if not cases:
        raise ValueError('expected expressions about a direction whose noun also names an object '
                         'that moves the opposite way, got none')
    turns: dict[str, list[float]] = {}
    for case in cases:
        turns.setdefault(case['video_id'], []).append(100. * (case['backward'] > case['forward']))
    found = cluster_mean(turns)
    return dict(cases=len(cases), videos=len(turns), turns=found.mean, low=found.low,
                high=found.high, **{name: 100 * float(np.mean([case[name] for case in cases]))
                                    for name in FOLDERS})


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what the command line asks for, print the figures."""
    parser = argparse.ArgumentParser(description='Measure whether a model follows directions')
    parser.add_argument('root', metavar='ROOT', help='folder of the split, such as D/valid_u')
    parser.add_argument('--pred', metavar='DIR', required=True, help='masks on the videos')
    parser.add_argument('--reversed-pred', metavar='DIR', required=True,
                        help='masks on the videos backward')
    parser.add_argument('--out', metavar='F.json', help='write figures and cases into this file')
    args = parser.parse_args(argv)
    with refuse(parser):
        out = None if args.out is None else ensure_writable_file(args.out)
        cases = [case for video in load_videos(args.root)
                 for case in cases_of(video, (args.pred, args.reversed_pred))]
        figures = share_of_turns(cases)
    interval = '-' if figures['low'] is None else '{low:.1f} to {high:.1f}'.format(**figures)
    print('| cases | videos | turns in % | 95 % interval | overlap, video | overlap, backward |\n'
          '|---:|---:|---:|---:|---:|---:|\n'
          '| {cases} | {videos} | {turns:.1f} | {interval} | {forward:.1f} | {backward:.1f} |'
          .format(interval=interval, **figures))
    if out is not None:
        out.write_text(json.dumps(dict(figures, per_case=cases), indent=1) + '\n',
                       encoding='utf-8')


if __name__ == '__main__':
    main()
