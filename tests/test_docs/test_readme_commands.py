"""The README as a new user reads it: its two commands give a mask overlay of an own mp4."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from glus_mm.datasets.moving_shapes import write_split
from glus_mm.models.inference import VideoFileReader
from programs import ROOT

README = (ROOT / 'README.md').read_text(encoding='utf-8')


def commands():
    """The marked block of the README, one command a line."""
    block = re.search(r'<!-- readme-segment -->\n```bash\n(.*?)```', README, re.DOTALL).group(1)
    return block.strip().splitlines()


def test_the_readme():
    install, segment = commands()
    assert re.fullmatch(r'python -m venv (\w+) && \1/bin/pip install "\.\[lite\]"', install)
    assert segment.startswith('v/bin/glus-mm segment')
    for file in [ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md'))]:
        text = file.read_text(encoding='utf-8')
        for path in re.findall(r'(?:python|bash) ((?:tools|demo)/[\w/.-]+\.(?:py|sh))', text):
            assert (ROOT / path).is_file(), f'{file.name} calls {path}'


@pytest.mark.slow
def test_the_command_makes_an_overlay_of_an_own_mp4(tmp_path):
    data = write_split(tmp_path / 'data', 1, seed=7, split='valid_u')
    shutil.copy(next((data / 'videos').glob('*.mp4')), tmp_path / 'video.mp4')
    program, *arguments = shlex.split(commands()[1])
    assert program == 'v/bin/glus-mm'
    # The entry point as pip makes it; where the environment has none, what it calls.
    installed = Path(sys.executable).parent / 'glus-mm'
    call = [str(installed)] if installed.is_file() else [
        sys.executable, '-c', 'import sys; from glus_mm.cli import main; sys.exit(main())']
    done = subprocess.run([*call, *arguments], cwd=tmp_path, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    out = tmp_path / 'outputs' / 'video'
    assert len(VideoFileReader(out / 'overlay.mp4')) == 12
    assert len(list((out / 'video').rglob('*.png'))) == 24
    assert (out / 'contact_sheet.png').is_file()


@pytest.mark.parametrize('page', [
    'README.md', 'CONTRIBUTING.md', 'docs', 'configs/README.md', 'configs/ablations/README.md',
    'configs/selectors/README.md', 'projects/ablation_study/README.md'])
def test_links_lead_somewhere(page):
    files = sorted((ROOT / page).glob('*.md')) if page == 'docs' else [ROOT / page]
    for file in files:
        for target in re.findall(r'\]\(([^)#\s]+)[^)]*\)', file.read_text(encoding='utf-8')):
            if '://' not in target:
                assert (file.parent / target).exists(), f'{file.name} links to {target}'


def test_the_reference_and_its_pages():
    shown = set(re.findall(r'automodule:: (\S+)', ' '.join(
        file.read_text(encoding='utf-8') for file in (ROOT / 'docs' / 'api').glob('*.md'))))
    packages = {'.'.join(file.parent.relative_to(ROOT).parts)
                for file in (ROOT / 'glus_mm').rglob('__init__.py')
                if '__all__' in file.read_text(encoding='utf-8')}
    utils = {f'glus_mm.utils.{file.stem}' for file in (ROOT / 'glus_mm' / 'utils').glob('*.py')
             if file.stem != '__init__'}
    assert sorted((packages | utils) - shown - {'glus_mm'}) == []
    listed = (ROOT / 'docs' / 'README.md').read_text(encoding='utf-8')
    index = (ROOT / 'docs' / 'index.md').read_text(encoding='utf-8')
    for page in sorted((ROOT / 'docs').glob('*.md')):
        if page.stem not in ('README', 'index'):
            assert f'({page.name})' in listed, f'docs/README.md does not list {page.name}'
            assert f'\n{page.stem}\n' in index, f'docs/index.md does not list {page.name}'
