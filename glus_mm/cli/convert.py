"""``glus-mm convert`` and the tools in ``tools/model_converters``: checkpoints between layouts."""

import argparse
import inspect
import sys
from collections.abc import Callable

from glus_mm.cli.user_error import FAILED, user_errors

_EPILOG = """Examples:
  glus-mm convert glus GLUS-S checkpoints/glus-s                # official GLUS
  glus-mm convert lisa LISA-7B-v1 checkpoints/lisa-7b_sam2-l    # the start of a training
  glus-mm convert chat-univi Chat-UniVi checkpoints/chat-univi  # a key-frame selector
  glus-mm convert sam2 facebook/sam2.1-hiera-tiny sam2.1-tiny  # from transformers, or back
  glus-mm convert official CONFIG.py iter_3000.pth GLUS-mine    # back to the official layout

"glus-mm convert KIND --help" has the options of each.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the kinds of conversion with their arguments."""
    parser.epilog = _EPILOG
    kinds = parser.add_subparsers(dest='kind', metavar='KIND', required=True)
    for name, (summary, add, _) in KINDS.items():
        add(kinds.add_parser(name, help=summary, description=summary))


def run(args: argparse.Namespace) -> None:
    """Convert.

    Raises:
        UserError: the checkpoint cannot be used, or the result cannot be written.
    """
    with user_errors(FAILED):
        _convert(KINDS[args.kind][2], args)
    print(f'wrote {args.out_dir}')


def run_tool(kind: str) -> None:
    """Be a program of its own for one kind, as those in ``tools/model_converters``.

    Raises:
        SystemExit: status 2, with the reason, where the conversion cannot be made.
    """
    summary, add, target = KINDS[kind]
    parser = argparse.ArgumentParser(
        description=f'{summary} The same as "glus-mm convert {kind}".')
    add(parser)
    args = parser.parse_args()
    try:
        _convert(target, args)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    print(f'wrote {args.out_dir}')


def _convert(target: '_Convert | str', args: argparse.Namespace) -> None:
    """Call a function, or the one of that name of glus_mm.conversion with the options it knows."""
    if not isinstance(target, str):
        target(args)
        return
    from glus_mm import conversion
    function = getattr(conversion, target)
    known = inspect.signature(function).parameters
    function(**{name: value for name, value in vars(args).items() if name in known})


def _add_folders(parser: argparse.ArgumentParser) -> None:
    """What the conversions from the official layouts share."""
    parser.add_argument('hf_dir', metavar='HF_DIR', help='folder of the official checkpoint')
    parser.add_argument('out_dir', metavar='OUT_DIR',
                        help='new folder for config.py, model.pth and the tokenizer')
    parser.add_argument('--clip', metavar='DIR_OR_NAME',
                        help='vision tower (default: the one that config.json names)')
    parser.add_argument('--force', action='store_true',
                        help='replace the files of an earlier conversion in OUT_DIR')


def _add_source_options(parser: argparse.ArgumentParser) -> None:
    _add_folders(parser)
    parser.add_argument('--sam2', metavar='NAME_OR_YAML', default='sam2_hiera_l',
                        help='config of SAM-2 (default: %(default)s)')
    parser.add_argument('--context', dest='num_context', type=int, default=4, metavar='N',
                        help='context frames (default: %(default)s)')
    parser.add_argument('--query', dest='num_query', type=int, default=4, metavar='N',
                        help='query frames in the window (default: %(default)s)')
    parser.add_argument('--memory-stride', type=int, default=3, metavar='N',
                        help='distance of the older memories (default: %(default)s)')


def _add_lisa_options(parser: argparse.ArgumentParser) -> None:
    _add_source_options(parser)
    parser.add_argument('--sam2-checkpoint', metavar='FILE',
                        help='stock weights of SAM-2 (default: the published ones, from the hub)')
    parser.add_argument('--seed', type=int, default=0, metavar='N',
                        help='of the new projector of seg tokens (default: %(default)s)')


def _add_chat_univi_options(parser: argparse.ArgumentParser) -> None:
    _add_folders(parser)
    # Up to 0.1 they were two conversions.
    parser.add_argument('--as', dest='selector', choices=['score', 'qa'], help=argparse.SUPPRESS)
    parser.add_argument('--seed', type=int, default=0, metavar='N',
                        help='of the new MLP on [SCORE] (default: %(default)s)')


def _add_official_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('config', metavar='CONFIG', help='config file of the model')
    parser.add_argument('checkpoint', metavar='CHECKPOINT', help='its weights')
    parser.add_argument('out_dir', metavar='OUT_DIR', help='new folder for the checkpoint')
    parser.add_argument('--max-shard-size', metavar='SIZE', default='10GB',
                        help='largest weight file (default: %(default)s)')
    parser.add_argument('--safetensors', action='store_true',
                        help='write .safetensors files instead of .bin')
    parser.add_argument('--dtype', choices=['bfloat16', 'float16', 'float32'],
                        help='cast the weights (default: each keeps its type)')
    parser.add_argument('--vision-tower', metavar='NAME',
                        help="what config.json names (default: OpenAI's tower of this size; one of "
                             'another size is written into OUT_DIR/clip)')
    parser.add_argument('--force', action='store_true',
                        help='replace the files of an earlier export in OUT_DIR')


def _convert_chat_univi(args: argparse.Namespace) -> None:
    from glus_mm.conversion import convert_chat_univi
    if args.selector:
        print('--as is not needed any more, as one folder serves both; it goes with glus_mm 0.2. '
              'projects/video_qa of the repository asks the model in words', file=sys.stderr)
    convert_chat_univi(args.hf_dir, args.out_dir, clip=args.clip, seed=args.seed,
                       force=args.force)


def _convert_official(args: argparse.Namespace) -> None:
    from glus_mm.apis.config_text import fill_tokenizers
    from glus_mm.conversion import export_official
    from glus_mm.utils.command_line import require_file
    from glus_mm.utils.config_input import config_from_file
    require_file(args.config, 'config')
    cfg = config_from_file(args.config)
    fill_tokenizers(cfg, args.checkpoint, cfg.get('load_from'))
    export_official(
        cfg, args.checkpoint, args.out_dir, max_shard_size=args.max_shard_size,
        safe_serialization=args.safetensors, vision_tower=args.vision_tower, dtype=args.dtype,
        force=args.force)


def _add_sam2_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('source', metavar='SOURCE', help='a file, a folder, or a repository on the '
                        'hub such as facebook/sam2.1-hiera-tiny')
    parser.add_argument('out_dir', metavar='OUT_DIR', help='new folder')
    parser.add_argument('--to', dest='layout', choices=['sam2', 'transformers'], default='sam2',
                        help='whose layout is written (default: %(default)s)')
    parser.add_argument('--sam2', metavar='NAME_OR_YAML',
                        help='what it is (default: the published one of these sizes)')
    parser.add_argument('--force', action='store_true',
                        help='replace the files of an earlier conversion in OUT_DIR')


_Add, _Convert = Callable[[argparse.ArgumentParser], None], Callable[[argparse.Namespace], None]
KINDS: dict[str, tuple[str, _Add, _Convert | str]] = {
    'glus': ('convert an official GLUS checkpoint', _add_source_options, 'convert_glus'),
    'lisa': ('make the start of a GLUS training from LISA and SAM-2', _add_lisa_options,
             'convert_lisa'),
    'chat-univi': ('make a key-frame selector from Chat-UniVi', _add_chat_univi_options,
                   _convert_chat_univi),
    'sam2': ('write the weights of SAM-2 in the layout of the sam2 package or of transformers',
             _add_sam2_options, 'convert_sam2'),
    'official': ('write a model in the layout of the official checkpoints; LoRA is merged',
                 _add_official_options, _convert_official),
}
