"""Repositories on the Hugging Face hub: what counts as a name, and downloads that explain."""

import re
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

_NAME = re.compile(r'[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w.][\w./-]*)?')
_FILE_SUFFIXES = ('.pth', '.pt', '.bin', '.safetensors', '.ckpt', '.py', '.json', '.yaml', '.yml',
                  '.model', '.zip', '.tar')
# The base class of the errors of the hub's HTTP client, which differs between its versions.
_CLIENT_ERROR = HfHubHTTPError.__bases__[0]


def is_hub_name(name: str | PathLike) -> bool:
    """Whether a name can only mean a repository on the hub.

    ``org/name`` or ``org/name@revision``, unless it looks like a path: something of that name
    exists, or a folder ``org`` does (then it is most likely a typo in a path), or it ends like a
    file.

    Args:
        name: what a user wrote; a ``Path`` is never meant as a repository.

    Returns:
        True if the hub is to be asked.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        return False
    return not (name.lower().endswith(_FILE_SUFFIXES) or Path(name).exists()
                or Path(name.split('/')[0]).is_dir())


def split_revision(name: str) -> tuple[str, str]:
    """Split ``org/name@revision``; without a revision it is ``main``."""
    repo, _, revision = name.partition('@')
    return repo, revision or constants.DEFAULT_REVISION


def download(name: str, patterns: Sequence[str], hint: str) -> Path:
    """Download files of a repository into the hub's own cache, or find them there.

    Args:
        name: ``org/name`` or ``org/name@revision``.
        patterns: shell-style patterns of the files that are wanted.
        hint: what to do without a network; ends the message.

    Returns:
        The folder of the snapshot; its name is the commit.

    Raises:
        ConnectionError: the hub cannot be reached (or is told not to be, ``HF_HUB_OFFLINE``) and
            the files are not in its cache.
        FileNotFoundError: the hub has no such repository or revision, or none that may be read.
    """
    repo, revision = split_revision(name)
    address = f'{constants.ENDPOINT}/{repo}'
    try:
        return Path(snapshot_download(repo, revision=revision, allow_patterns=list(patterns)))
    except GatedRepoError as error:
        raise FileNotFoundError(
            f'{address} can be read only by those who were let in: ask for access on that page '
            f'and log in with "hf auth login"') from error
    except RepositoryNotFoundError as error:
        raise FileNotFoundError(
            f'{repo!r} is no file or folder here, and there is no repository {address} (or it is '
            f'private: log in with "hf auth login")') from error
    except RevisionNotFoundError as error:
        raise FileNotFoundError(f'{address} has no revision {revision!r}') from error
    except (LocalEntryNotFoundError, ConnectionError, _CLIENT_ERROR) as error:
        cause = error.__cause__ or error
        reason = str(cause).splitlines()[0].rstrip('.') if str(cause) else type(cause).__name__
        raise ConnectionError(
            f'{repo!r} is no file or folder here, and the repository {address} could not be '
            f'reached ({reason}). {hint}') from error
