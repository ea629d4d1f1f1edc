"""Segment a list of videos by texts.

Each line of the list is one video::

    {"video": "clips/cat.mp4", "texts": ["the cat", "the ball"]}
    {"video": "clips/dog", "texts": ["the dog"], "key_frames": [12], "id": "dog-2"}

Masks go to ``OUT_DIR/masks/<id>``, a result line for each video to ``OUT_DIR/results.jsonl``; what
goes wrong with a video is recorded there, and the others go on. Several processes share the videos
by frames x expressions; ``--resume`` goes on after an interruption. Examples::

    python tools/segment_many.py list.jsonl outputs/many --config CONFIG --checkpoint CHECKPOINT
    torchrun --nproc_per_node 4 tools/segment_many.py list.jsonl outputs/many --launcher pytorch \
        --device cuda --resume

The exit status is 0 if all videos are done, 1 if some could not be (0 with a launcher, which would
take it for a crash), 2 if nothing was tried.
"""

import argparse
import os
from collections.abc import Callable
from contextlib import ExitStack

from mmengine.dist import get_dist_info
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope

from glus_mm.apis import GLUSInferencer, init_model
from glus_mm.apis.many_videos import (
    VideoListSegmenter,
    VideoRequest,
    holds_results,
    read_requests,
)
from glus_mm.apis.pretrained import resolve_for
from glus_mm.apis.result_files import FORMATS
from glus_mm.engine.run_fingerprint import fingerprint
from glus_mm.registry import SCOPE
from glus_mm.utils.checkpoint_files import checkpoint_digest
from glus_mm.utils.command_line import read_config, refuse
from glus_mm.utils.config_input import LAUNCHERS, ConfigOptions
from glus_mm.utils.folder_lock import lock_folder
from glus_mm.utils.paths import ensure_writable_dir
from glus_mm.utils.resources import find_resource
from glus_mm.utils.setup_env import join_processes, launched_rank, leave_dist

CONFIG = 'configs/glus/glus_tiny_moving-shapes.py'
CHECKPOINT = 'checkpoints/glus_tiny_moving-shapes.pth'
# The slowest process may take much longer than the others.
DIST_TIMEOUT = 24 * 3600  # seconds


def restarted() -> bool:
    """Whether torchrun has started this process again after another one had died."""
    return int(os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')) > 0


def prepare(args: argparse.Namespace) -> tuple[VideoListSegmenter, list[VideoRequest]]:
    """Check what was asked for, the quick things first, then build the model."""
    requests = read_requests(args.list)
    out_dir = ensure_writable_dir(args.out_dir)
    if not (args.resume or args.overwrite or restarted()) and holds_results(out_dir):
        raise ValueError(f'expected a folder without results, got one of an earlier run: '
                         f'{args.out_dir}; --resume goes on with it, --overwrite begins anew')
    cfg = read_config(str(find_resource(args.config)), args.cfg_options)
    checkpoint = resolve_for(cfg, args.checkpoint)
    device = args.device
    if args.launcher != 'none':
        join_processes(args.launcher, timeout=DIST_TIMEOUT)
        if device == 'cuda':
            device = f'cuda:{os.environ["LOCAL_RANK"]}'
    init_default_scope(SCOPE)
    model = init_model(cfg, checkpoint, device)
    made_by = fingerprint([cfg.model, checkpoint_digest(checkpoint), device.partition(':')[0]])
    return VideoListSegmenter(GLUSInferencer(model), out_dir, args.format, made_by), requests


def reporter() -> Callable[[dict], None]:
    """A function that prints one line for each result."""
    rank = get_dist_info()[0]

    def report(record: dict) -> None:
        if record['status'] == 'done':
            text = f'{record["frames"]} frames x {len(record["texts"])} texts'
        else:
            text = f'error: {record["error"]}'
        print(f'[{rank}] {record["id"]}: {text} ({record["seconds"]:.1f} s)', flush=True)

    return report


def main() -> None:
    """Check what was asked for, segment, and count."""
    parser = argparse.ArgumentParser(description='Segment a list of videos by texts')
    parser.add_argument('list', metavar='LIST.jsonl', help='one video with its texts per line')
    parser.add_argument('out_dir', metavar='OUT_DIR', help='folder for masks and results')
    parser.add_argument('--config', default=CONFIG, help='config file (default: %(default)s)')
    parser.add_argument('--checkpoint', default=CHECKPOINT,
                        help='checkpoint file, folder written by tools/model_converters, or name '
                             'of a repository on the hub (default: %(default)s)')
    parser.add_argument('--device', default='cpu',
                        help='cpu, cuda, cuda:1; with a launcher cuda means the GPU of the local '
                             'rank (default: %(default)s)')
    parser.add_argument('--format', choices=FORMATS, default='png',
                        help='masks as PNG files or as COCO RLE in one JSONL file for each video '
                             '(default: %(default)s)')
    group = parser.add_mutually_exclusive_group()
    group.add_argument('--resume', action='store_true',
                       help='go on in a folder with results: videos that are done are kept, '
                            'those with errors tried again')
    group.add_argument('--overwrite', action='store_true',
                       help='begin anew in a folder with results')
    parser.add_argument('--cfg-options', nargs='+', action=ConfigOptions, metavar='K=V',
                        help='override config values: a.b=1 c="[1,2]"')
    parser.add_argument('--launcher', choices=LAUNCHERS, default='none',
                        help='how the processes were started (default: %(default)s)')
    args = parser.parse_args()
    MMLogger.get_instance('segment_many')
    with ExitStack() as stack:
        with refuse(parser):
            if launched_rank(args.launcher) == 0:
                # One that was left behind by its launcher may still write.
                stack.enter_context(lock_folder(ensure_writable_dir(args.out_dir)))
            segmenter, requests = prepare(args)
        results = segmenter.run(requests, args.resume or restarted(), reporter())
        rank = get_dist_info()[0]
        leave_dist()
    if rank:
        return
    failed = [record for record in results.values() if record['status'] != 'done']
    print(f'{len(results) - len(failed)} of {len(requests)} videos are done, {len(failed)} with '
          f'errors: {segmenter.path}')
    parser.exit(1 if failed and args.launcher == 'none' else 0)


if __name__ == '__main__':
    main()
