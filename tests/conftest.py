"""What tests of more than one part need."""

import shutil
from pathlib import Path

import pytest
from huggingface_hub import constants


class LocalHub:
    """A cache of the Hugging Face hub, as a download leaves it, and no network.

    Args:
        cache: a new folder.
    """

    def __init__(self, cache: Path) -> None:
        self.cache = cache

    def publish(self, repo: str, files: Path, commit: str = 'c' * 40) -> Path:
        """Put the files of a folder into the cache as a commit of ``main``."""
        home = self.cache / f'models--{repo.replace("/", "--")}'
        (home / 'refs').mkdir(parents=True, exist_ok=True)
        (home / 'refs' / 'main').write_text(commit)
        shutil.copytree(files, home / 'snapshots' / commit)
        return home

    @property
    def environment(self) -> dict[str, str]:
        """For another process."""
        return dict(HF_HUB_CACHE=str(self.cache), HF_HUB_OFFLINE='1')


@pytest.fixture
def local_hub(tmp_path, monkeypatch):
    """An empty local hub, set as the environment's HF_HUB_CACHE and HF_HUB_OFFLINE would."""
    hub = LocalHub(tmp_path / 'hub')
    monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(hub.cache))
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
    return hub
