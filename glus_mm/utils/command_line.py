"""What the command-line tools share: configs, and errors found before the work."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmengine import Config

from glus_mm.utils.checkpoint_files import choose_resume, why_torn
from glus_mm.utils.config_input import config_from_file
from glus_mm.utils.config_keys import check_config_keys, top_keys
from glus_mm.utils.deprecation import project_hint
from glus_mm.utils.error_text import user_error_text
from glus_mm.utils.model_zoo import find_model
from glus_mm.utils.paths import ensure_writable_dir, require_file
from glus_mm.utils.spelling import nearest


@contextmanager
def refuse(parser: argparse.ArgumentParser) -> Iterator[None]:
    """Around what is checked before the work: errors that a user can mend end it, in one line.

    Raises:
        SystemExit: with status 2.
    """
    try:
        yield
    except (ImportError, OSError, KeyError, TypeError, ValueError) as error:
        parser.exit(2, f'{parser.prog}: error: {user_error_text(error)}\n')


def load_config(path: str, options: dict | None, work_dir: str | None) -> Config:
    """Read a config, override values, and choose the folder to work in.

    Args:
        path: the config file, or the name of a shipped one without its suffix.
        options: dotted keys and values of ``--cfg-options``.
        work_dir: the folder asked for; else the config's own, else ``work_dirs/<config name>``.

    Returns:
        The config; its ``work_dir`` exists and can be written.

    Raises:
        FileNotFoundError: there is no such config.
        KeyError: a key that nobody reads, see :func:`check_config_keys`, or an option of which the
            first part is neither in the config nor known to MMEngine.
        OSError: the folder cannot be written.
        ValueError: the config cannot be read, or an option does not fit it.
    """
    cfg = read_config(path, options)
    if work_dir is not None:
        cfg.work_dir = work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs') / Path(path).stem)
    ensure_writable_dir(cfg.work_dir)
    return cfg


def read_config(path: str, options: dict | None = None) -> Config:
    """Read a config and override values; see :func:`load_config`."""
    hint = project_hint(Path(path).stem)
    if hint and not Path(path).exists():
        raise FileNotFoundError(hint)
    if Path(path).name == path and not Path(path).suffix and not Path(path).exists():
        path = str(find_model(path).config)
    require_file(path, 'config')
    cfg = config_from_file(path)
    known = set(cfg) | top_keys()
    for key in options or {}:
        first = key.split('.')[0]
        if first not in known:
            raise KeyError(f'--cfg-options {key}: the config {path} has no {first!r}, and MMEngine '
                           f'knows none; the nearest is {nearest(first, known)!r}')
    try:
        cfg.merge_from_dict(options or {})
    except (TypeError, KeyError, IndexError, ValueError, AssertionError) as error:
        raise ValueError(f'--cfg-options {" ".join(options or {})}: {error}') from error
    check_config_keys(cfg)
    return cfg


def set_resume(cfg: Config, resume: str | None) -> None:
    """Apply ``--resume``.

    Args:
        cfg: a config with ``work_dir``; ``resume`` and ``load_from`` are set in it.
        resume: None = leave the config as it is; ``'auto'`` = go on from the newest whole
            checkpoint in the work folder, or start as the config says if there is none; else a
            checkpoint. What is torn is skipped with a warning.

    Raises:
        FileNotFoundError: there is no such checkpoint, or the one that the work folder names is
            gone and there is no other.
        ValueError: the checkpoint is torn.
    """
    if resume is None:
        return
    if resume == 'auto':
        path = choose_resume(cfg.work_dir)
        if path is None:
            return
    else:
        path = Path(resume).expanduser()
        if not path.is_dir():  # DeepSpeed's checkpoints are folders
            require_file(resume, 'checkpoint')
        reason = why_torn(path)
        if reason is not None:
            raise ValueError(f'expected a whole checkpoint, got a torn one ({reason}): {path}; '
                             '--resume auto goes on from the newest whole one')
    cfg.resume = True
    cfg.load_from = str(path)
