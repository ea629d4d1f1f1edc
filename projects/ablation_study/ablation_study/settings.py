"""What a study is run with; a folder of results belongs to one such setting."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from glus_mm.datasets.moving_shapes import VARIANTS, write_split

DATA_SEEDS = {'train': 0, 'valid_u': 777}


@dataclass(frozen=True)
class Settings:
    """Settings that change results.

    Attributes:
        start: SHA-256 of the checkpoint that all rows start from.
        steps: iterations of a row.
        selector_steps: iterations of a selector.
        label_videos: videos of each of two variants that get pseudo-labels for the selector.
        train_videos: training videos of the default variant; a third as many of each other one.
        test_videos: test videos of the default variant; three quarters as many of each other one.
    """

    start: str
    steps: int
    selector_steps: int
    label_videos: int
    train_videos: int
    test_videos: int

    def videos(self, variant: str, split: str) -> int:
        """Number of videos of a variant in a split."""
        if split == 'train':
            return self.train_videos if variant == 'default' else -(-self.train_videos // 3)
        return self.test_videos if variant == 'default' else -(-3 * self.test_videos // 4)

    def claim(self, out: Path) -> None:
        """Note the settings in a folder.

        Raises:
            ValueError: the folder has the results of other settings.
        """
        path = out / 'settings.json'
        if path.is_file():
            found = json.loads(path.read_text(encoding='utf-8'))
            if found != asdict(self):
                raise ValueError(f'expected a folder of this study, got one with other settings: '
                                 f'{path} has {found}, this is {asdict(self)}')
            return
        write_atomically(path, json.dumps(asdict(self), indent=1) + '\n')

    def prepare_data(self, root: Path) -> None:
        """Generate the splits that are not there yet.

        Raises:
            ValueError: a split is there with another number of videos.
        """
        for variant in VARIANTS:
            for split, seed in DATA_SEEDS.items():
                number = self.videos(variant, split)
                annotation = root / variant / split / 'meta_expressions.json'
                if annotation.is_file():
                    found = len(json.loads(annotation.read_text(encoding='utf-8'))['videos'])
                    if found != number:
                        raise ValueError(f'expected {number} videos, got {found}: {annotation}')
                    continue
                # A split without annotation is one that was interrupted.
                talk = 24 if variant == 'default' and split == 'train' else 0
                write_split(root / variant, number, seed, split, mp4=False, overwrite=True,
                            variant=variant, talk=talk)


def hash_file(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_atomically(path: Path, text: str) -> None:
    """Write a file that is there as a whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + '.part')
    part.write_text(text, encoding='utf-8')
    part.replace(path)
