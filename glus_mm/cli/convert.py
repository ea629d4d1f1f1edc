"""``glus-mm convert`` and the tools in ``tools/model_converters``: checkpoints between layouts."""

import argparse
import inspect
import sys
from typing import Any

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
    for name, (summary, options, _) in KINDS.items():
        _add(kinds.add_parser(name, help=summary, description=summary), options)


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
    summary, options, target = KINDS[kind]
    parser = argparse.ArgumentParser(
        description=f'{summary} The same as "glus-mm convert {kind}".')
    _add(parser, options)
    args = parser.parse_args()
    try:
        _convert(target, args)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    print(f'wrote {args.out_dir}')


def _add(parser: argparse.ArgumentParser, options: '_Options') -> None:
    for name, settings in options.items():
        parser.add_argument(name, **settings)


def _convert(target: str, args: argparse.Namespace) -> None:
    """Call the function of glus_mm.conversion with those of the options that it knows."""
    from glus_mm import conversion
    if target == 'export_official':
        from glus_mm.apis.config_text import fill_tokenizers
        from glus_mm.utils.command_line import require_file
        from glus_mm.utils.config_input import config_from_file
        require_file(args.config, 'config')
        args.config = config_from_file(args.config)
        fill_tokenizers(args.config, args.checkpoint, args.config.get('load_from'))
    if getattr(args, 'selector', None):
        print('--as is not needed any more, as one folder serves both; it goes with glus_mm 0.2. '
              'projects/video_qa of the repository asks the model in words', file=sys.stderr)
    function = getattr(conversion, target)
    known = inspect.signature(function).parameters.keys() - {'kind'}
    function(**{name: value for name, value in vars(args).items() if name in known})


_Options = dict[str, dict[str, Any]]


def _force(kind: str) -> dict[str, Any]:
    return dict(action='store_true', help=f'replace the files of an earlier {kind} in OUT_DIR')


_FOLDERS: _Options = {
    'hf_dir': dict(metavar='HF_DIR', help='folder of the official checkpoint'),
    'out_dir': dict(metavar='OUT_DIR', help='new folder for config.py, model.pth and the '
                    'tokenizer'),
    '--clip': dict(metavar='DIR_OR_NAME',
                   help='vision tower (default: the one that config.json names)'),
    '--force': _force('conversion')}
_SOURCE: _Options = {
    **_FOLDERS,
    '--sam2': dict(metavar='NAME_OR_YAML', default='sam2_hiera_l',
                   help='config of SAM-2 (default: %(default)s)'),
    '--context': dict(dest='num_context', type=int, default=4, metavar='N',
                      help='context frames (default: %(default)s)'),
    '--query': dict(dest='num_query', type=int, default=4, metavar='N',
                    help='query frames in the window (default: %(default)s)'),
    '--memory-stride': dict(type=int, default=3, metavar='N',
                            help='distance of the older memories (default: %(default)s)')}
_LISA: _Options = {
    **_SOURCE,
    '--sam2-checkpoint': dict(metavar='FILE', help='stock weights of SAM-2 (default: the published '
                              'ones, from the hub)'),
    '--seed': dict(type=int, default=0, metavar='N',
                   help='of the new projector of seg tokens (default: %(default)s)')}
_CHAT_UNIVI: _Options = {
    **_FOLDERS,
    # Up to 0.1 they were two conversions.
    '--as': dict(dest='selector', choices=['score', 'qa'], help=argparse.SUPPRESS),
    '--seed': dict(type=int, default=0, metavar='N',
                   help='of the new MLP on [SCORE] (default: %(default)s)')}
_SAM2: _Options = {
    'source': dict(metavar='SOURCE', help='a file, a folder, or a repository on the hub such as '
                   'facebook/sam2.1-hiera-tiny'),
    'out_dir': dict(metavar='OUT_DIR', help='new folder'),
    '--to': dict(dest='layout', choices=['sam2', 'transformers'], default='sam2',
                 help='whose layout is written (default: %(default)s)'),
    '--sam2': dict(metavar='NAME_OR_YAML',
                   help='what it is (default: the published one of these sizes)'),
    '--force': _force('conversion')}
_OFFICIAL: _Options = {
    'config': dict(metavar='CONFIG', help='config file of the model'),
    'checkpoint': dict(metavar='CHECKPOINT', help='its weights'),
    'out_dir': dict(metavar='OUT_DIR', help='new folder for the checkpoint'),
    '--max-shard-size': dict(metavar='SIZE', default='10GB',
                             help='largest weight file (default: %(default)s)'),
    '--safetensors': dict(dest='safe_serialization', action='store_true',
                          help='write .safetensors files instead of .bin'),
    '--dtype': dict(choices=['bfloat16', 'float16', 'float32'],
                    help='cast the weights (default: each keeps its type)'),
    '--vision-tower': dict(metavar='NAME', help="what config.json names (default: OpenAI's tower "
                           'of this size; one of another size is written into OUT_DIR/clip)'),
    '--force': _force('export')}
KINDS: dict[str, tuple[str, _Options, str]] = {
    'glus': ('convert an official GLUS checkpoint', _SOURCE, 'convert_glus'),
    'lisa': ('make the start of a GLUS training from LISA and SAM-2', _LISA, 'convert_lisa'),
    'chat-univi': ('make a key-frame selector from Chat-UniVi', _CHAT_UNIVI,
                   'convert_chat_univi'),
    'sam2': ('write the weights of SAM-2 in the layout of the sam2 package or of transformers',
             _SAM2, 'convert_sam2'),
    'official': ('write a model in the layout of the official checkpoints; LoRA is merged',
                 _OFFICIAL, 'export_official'),
}
