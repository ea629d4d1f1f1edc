"""``import glus_mm`` says in one line what to install: no engine, two, or another one is there."""

import subprocess
import sys

import pytest

from programs import ROOT


def import_in(folder):
    """What the last line of ``import glus_mm`` is, with nothing but Python and a folder."""
    program = (f'import sys; sys.path += [{str(ROOT)!r}, {str(folder)!r}]\n'
               'import glus_mm; print("imported")')
    done = subprocess.run([sys.executable, '-I', '-S', '-c', program], capture_output=True,
                          text=True, cwd=folder)
    return (done.stdout + done.stderr).splitlines()[-1]


def install(folder, module, *distributions):
    (folder / module).mkdir(exist_ok=True)
    (folder / module / '__init__.py').touch()
    for name in distributions:
        info = folder / f'{name.replace("-", "_")}-1.0.dist-info'
        info.mkdir()
        (info / 'METADATA').write_text(f'Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n')


@pytest.mark.parametrize('engine, mmcv', [('mmengine', 'mmcv-lite'), ('mmengine', 'mmcv'),
                                          ('onedl-mmengine', 'onedl-mmcv')])
def test_a_pair(tmp_path, engine, mmcv):
    install(tmp_path, 'mmengine', engine)
    install(tmp_path, 'mmcv', mmcv)
    assert import_in(tmp_path) == 'imported'


def test_none_or_neither(tmp_path):
    message = import_in(tmp_path)
    assert message.startswith('ImportError: glus_mm needs mmengine, which is not installed: pip '
                              'install "glus_mm[lite]"') and '"glus_mm[onedl]"' in message
    install(tmp_path, 'mmengine', 'onedl-mmengine')
    assert 'glus_mm needs mmcv, which is not installed: pip install' in import_in(tmp_path)
    neither = tmp_path / 'neither'
    neither.mkdir()
    install(neither, 'mmengine')
    message = import_in(neither)
    assert 'needs the mmengine of mmengine or onedl-mmengine, got another one' in message
    assert str(tmp_path) in message and 'pip install "glus_mm[lite]"' in message


@pytest.mark.parametrize('module, both', [('mmengine', ('mmengine', 'onedl-mmengine')),
                                          ('mmcv', ('mmcv-lite', 'onedl-mmcv'))])
def test_both(tmp_path, module, both):
    install(tmp_path, 'mmengine', *(both if module == 'mmengine' else ['mmengine']))
    install(tmp_path, 'mmcv', *(both if module == 'mmcv' else ['mmcv-lite']))
    message = import_in(tmp_path)
    assert f'one package that brings {module}; {both[0]} and {both[1]} lie over' in message
    assert 'pip uninstall -y mmengine onedl-mmengine' in message
