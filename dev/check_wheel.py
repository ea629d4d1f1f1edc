"""Build the source distribution and the wheel from it, install the wheel, and use it elsewhere.

Nothing is downloaded: what the package depends on is taken from the environment that runs this.
The wheel goes into a folder of its own, and ``glus-mm`` runs from an empty one, so that nothing of
the repository is found by chance. With ``--fresh`` a new environment takes the wheel and all that
it needs from the index, as a user does (some 6 GB with CUDA). Example::

    python dev/check_wheel.py --out dist
    python dev/check_wheel.py --fresh
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUILD_SDIST = 'import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])'
# A video of twelve frames, made by the package that was installed.
MAKE_VIDEO = ('from glus_mm.datasets.moving_shapes import write_split; '
              "write_split('data', 1, seed=5, split='valid_u')")


def call(*command: object, cwd: Path = ROOT, env: dict[str, str] | None = None) -> str:
    """Run a program, whose failure ends this one; return what it prints."""
    done = subprocess.run([str(part) for part in command], cwd=cwd, text=True,
                          capture_output=True, env=dict(os.environ, **(env or {})))
    if done.returncode != 0:
        sys.stderr.write(done.stdout + done.stderr)
        sys.exit(f'failed: {" ".join(map(str, command))}')
    return done.stdout


def pip(*arguments: object) -> None:
    """Run pip quietly and without its note on new versions."""
    call(sys.executable, '-m', 'pip', '--quiet', '--disable-pip-version-check', *arguments)


def build(folder: Path) -> tuple[Path, Path]:
    """Build the sdist here and the wheel from it; return both files."""
    call(sys.executable, '-c', BUILD_SDIST, folder)
    sdist = max(folder.glob('*.tar.gz'), key=lambda file: file.stat().st_mtime)
    pip('wheel', '--no-deps', '--no-build-isolation', '--wheel-dir', folder, sdist)
    return sdist, max(folder.glob('*.whl'), key=lambda file: file.stat().st_mtime)


def check_content(wheel: Path) -> None:
    """End where a module, config or other file is not in the wheel, or too much is."""
    wanted = {str(path.relative_to(ROOT)) for path in (ROOT / 'glus_mm').rglob('*')
              if path.is_file() and '__pycache__' not in path.parts}
    for pattern in ('configs/**/*.py', 'configs/**/*.yml', 'model-index.yml',
                    'checkpoints/glus_tiny_moving-shapes.pth'):
        wanted |= {f'glus_mm/.mim/{path.relative_to(ROOT)}' for path in ROOT.glob(pattern)}
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith('/')}
    missing = sorted(wanted - names)
    strange = sorted(name for name in names if not name.startswith('glus_mm'))
    if missing or strange:
        sys.exit(f'{wheel.name} lacks {missing[:10]} and has {strange[:10]}')


def use(python: str | Path, site: Path, empty: Path) -> None:
    """Segment a video with what was installed in ``site``, from a folder with nothing in it."""
    env = dict(DS_ACCELERATOR='cpu', HF_HUB_OFFLINE='1',
               PYTHONPATH=str(site) if python == sys.executable else '')
    glus_mm = site / 'bin' / 'glus-mm'
    info = json.loads(call(glus_mm, 'info', '--json', cwd=empty, env=env))
    for key in ('package', 'configs'):
        if not Path(info[key]).is_relative_to(site.resolve()):
            sys.exit(f'expected {key} below {site}, got {info[key]}')
    call(python, '-c', MAKE_VIDEO, cwd=empty, env=env)
    video = next((empty / 'data').rglob('*.mp4'))
    call(glus_mm, 'segment', video, '--text', 'the red circle', '--out-dir', 'out', cwd=empty,
         env=env)
    lacking = [name for name in ('overlay.mp4', 'contact_sheet.png', f'{video.stem}/0')
               if not (empty / 'out' / name).exists()]
    if lacking:
        sys.exit(f'glus-mm segment did not write {lacking}')


def main() -> None:
    """Build, compare, install, use."""
    parser = argparse.ArgumentParser(description='Check the wheel')
    parser.add_argument('--out', metavar='DIR', help='keep the sdist and the wheel there')
    parser.add_argument('--fresh', action='store_true',
                        help='install it with all that it needs into a new environment')
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix='glus_mm_wheel_') as work:
        folder = Path(args.out or Path(work, 'dist')).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        files = build(folder)
        check_content(files[1])
        site, empty = Path(work, 'site').resolve(), Path(work, 'empty').resolve()
        empty.mkdir()
        if args.fresh:
            call(sys.executable, '-m', 'venv', site)
            call(site / 'bin' / 'pip', 'install', f'{files[1]}[lite]')
            use(site / 'bin' / 'python', site, empty)
        else:
            pip('install', '--no-deps', '--target', site, files[1])
            use(sys.executable, site, empty)
        sizes = ', '.join(f'{file.name} {file.stat().st_size / 1e6:.1f} MB' for file in files)
    print(f'built, installed and used from an empty folder: {sizes}')


if __name__ == '__main__':
    main()
