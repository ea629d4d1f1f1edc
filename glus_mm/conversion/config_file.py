"""The folder of a converted checkpoint, and its config."""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from glus_mm.text.tokenizer import (
    IM_END_TOKEN,
    IM_START_TOKEN,
    SCORE_TOKEN,
    SEG_TOKEN,
    SegTokenizer,
)
from glus_mm.utils.config_input import config_from_file
from glus_mm.utils.paths import ensure_writable_dir
from glus_mm.utils.resources import find_resource
from glus_mm.version import __version__

# MMEngine replaces it by the folder of the config file.
HERE = '{{ fileDirname }}'
WIDTH = 100
HEADER = """\
# {title} with the weights of model.pth, which lies beside this file.
{origin}
# Token ids: {tokens}.
#
# Paths below are relative to this folder, so that it can be moved as a whole.
#
#     python tools/test.py THIS_FOLDER/config.py THIS_FOLDER/model.pth
{usage}
"""
GLUS_USAGE = """\
#     python demo/video_demo.py VIDEO THIS_FOLDER/config.py THIS_FOLDER/model.pth \\
#         --text "..." --out-dir DIR
"""
DATA = """
# MeViS valid_u; --cfg-options test_dataloader.dataset.data_root=... for another split or place.
"""
_STAGING = '.unfinished'


def config_text(model: dict[str, Any], origin: str, tokenizer: SegTokenizer) -> str:
    """The text of config.py.

    Args:
        model: the ``model`` of the config, a GLUS or a key-frame selector.
        origin: what the weights were made from, one or more lines.
        tokenizer: its ids are noted.
    """
    is_glus = model['type'] == 'GLUS'
    tokens = (SEG_TOKEN, IM_START_TOKEN, IM_END_TOKEN) if is_glus else (SCORE_TOKEN, )
    ids = ', '.join(f'{text} {tokenizer.added_tokens[text]}' for text in tokens)
    # What is not printable, or a brace that MMEngine would replace, has no place in a comment.
    plain = ''.join(c if c.isprintable() and c not in '{}' or c == '\n' else '?' for c in origin)
    comment = '\n'.join(f'# {line}' for line in plain.split('\n'))
    header = HEADER.format(title=model['type'], origin=comment, tokens=ids,
                           usage=GLUS_USAGE if is_glus else '')
    # Written out, so that the folder stands alone.
    mevis = config_from_file(find_resource('configs/_base_/datasets/mevis.py'))
    loader, evaluator = mevis.test_dataloader.to_dict(), mevis.test_evaluator.to_dict()
    if not is_glus:
        loader['dataset']['pipeline'] = [step for step in loader['dataset']['pipeline']
                                         if step['type'] != 'LoadRefVOSGroundTruth']
        evaluator = dict(type='KeyFrameMetric', out_dir='work_dirs/key_frames')
    data = dict(test_dataloader=loader, test_evaluator=evaluator, test_cfg=dict(type='TestLoop'))
    # What every run shares, without the comment on how to inherit from it.
    runtime = find_resource('configs/_base_/default_runtime.py').read_text(encoding='utf-8')
    return (header + _format(dict(model=model)) + DATA + _format(data)
            + runtime[runtime.index('default_scope'):])


def origin_text(tool: str, folder: Path, architecture: str, tower: str, sam2: str | None,
                notes: Sequence[str] = ()) -> str:
    """What a converted checkpoint was made from, for its header; names, no paths.

    Args:
        tool: name of the converter.
        folder: the official checkpoint.
        architecture: what its config.json names.
        tower: name of the vision tower.
        sam2: name of the SAM-2 config, where there is one.
        notes: further lines.
    """
    parts = f'the vision tower {tower!r}'
    if sam2 is not None:
        parts += f' and the SAM-2 config {Path(sam2).name!r}'
    return '\n'.join([
        f'Made by {tool} of glus_mm {__version__} from the folder {folder.resolve().name!r} '
        f'({architecture}),', f'{parts}.', *notes])


def _format(settings: dict[str, Any]) -> str:
    """Python text of settings, a statement each."""
    return ''.join(f'{key} = {_python(value, 0, len(key) + 3)}\n'
                   for key, value in settings.items())


def _python(value: Any, indent: int, used: int) -> str:
    """Python text of a value, dicts as ``dict(...)``; ``used`` characters stand before it."""
    if not isinstance(value, (dict, list)) or not value:
        return repr(value)
    start, end = ('dict(', ')') if isinstance(value, dict) else '[]'
    items = [(f'{key}=', item) for key, item in value.items()] if isinstance(
        value, dict) else [('', item) for item in value]
    one_line = start + ', '.join(key + _python(v, 0, -10**6) for key, v in items) + end
    if used + len(one_line) < WIDTH:
        return one_line
    inner = ' ' * (indent + 4)
    lines = [f'{inner}{key}{_python(item, indent + 4, len(inner) + len(key))}'
             for key, item in items]
    return start + '\n' + ',\n'.join(lines) + end


def check_output_folder(folder: Path, own: Sequence[str], inputs: Sequence[Path],
                        force: bool) -> None:
    """Refuse a folder whose files would be lost.

    Args:
        folder: where to write.
        own: names or patterns of the files that are written there.
        inputs: folders that are read; none of them may be written to.
        force: replace those of ``own`` that are there. Other files stay in any case.

    Raises:
        FileExistsError: the folder has files, and ``force`` is not given.
        NotADirectoryError: it is a file.
        ValueError: it is one of the inputs.
    """
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f'expected an output folder, got a file: {folder}')
    for path in inputs:
        if path.exists() and folder.exists() and path.samefile(folder):
            raise ValueError(f'expected an output folder that is not an input, got {folder}')
    held = sorted(p.name for p in folder.iterdir() if p.name != _STAGING) if folder.exists() else []
    if held and not force:
        raise FileExistsError(f'expected a new or empty output folder, but {folder} holds '
                              f'{held[:6]}; --force replaces {", ".join(own)} in it')


@contextmanager
def output_folder(folder: Path, own: Sequence[str], last: str) -> Iterator[Path]:
    """Stage files and move them to their place when all are there.

    Args:
        folder: where they go.
        own: names or patterns of files; those of an earlier run do not stay.
        last: the file that is moved last: where it is, the others are.

    Yields:
        A folder on the same file system to write into. If the work fails, nothing stays, neither
        it nor a folder that was created.
    """
    created = [p for p in (folder, *folder.parents) if not p.exists()]
    staging = folder / _STAGING
    try:
        ensure_writable_dir(folder)
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir()
        yield staging
        for name in [last, *own]:
            for old in folder.glob(name):
                _remove(old)
        for file in staging.rglob('*'):
            if file.is_file():
                # safetensors makes files that only their owner can read.
                shutil.copymode(staging / last, file)
        for file in sorted(staging.iterdir(), key=lambda file: file.name == last):
            os.replace(file, folder / file.name)
        staging.rmdir()
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        for path in created:
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()
        raise


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def check_space(staging: Path, folder: Path, needed: int) -> None:
    """Raise ``OSError`` if less than ``needed`` bytes are free where ``folder`` will be.

    Args:
        staging: where the files are written first.
        folder: where they go.
        needed: bytes.
    """
    free = shutil.disk_usage(staging).free
    if free < needed:
        raise OSError(f'expected {needed / 1e9:.2f} GB free for the output folder {folder}, got '
                      f'{free / 1e9:.2f} GB')
