"""Output places are checked before the work."""

import os
import stat

import pytest

from glus_mm.utils.paths import ensure_writable_dir, ensure_writable_file

# A superuser ignores permission bits; /proc refuses everyone.
READ_ONLY = '/proc/glus_mm_test'


def test_folders(tmp_path, monkeypatch):
    folder = ensure_writable_dir(tmp_path / 'a' / 'b')
    assert folder.is_dir()
    assert list(folder.iterdir()) == []
    (tmp_path / 'kept.txt').write_text('text')
    ensure_writable_dir(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ['a', 'kept.txt']
    monkeypatch.setenv('HOME', str(tmp_path))
    assert ensure_writable_dir('~/out') == tmp_path / 'out'
    monkeypatch.chdir(tmp_path)
    for path in ('', ' '):
        with pytest.raises(ValueError, match='got an empty one'):
            ensure_writable_dir(path)


@pytest.mark.skipif(not os.path.isdir('/proc/self'), reason='needs a /proc file system')
def test_a_place_that_refuses():
    with pytest.raises(OSError, match=f'{READ_ONLY} cannot be written'):
        ensure_writable_dir(READ_ONLY)
    with pytest.raises(OSError, match='cannot be written'):
        ensure_writable_file(f'{READ_ONLY}/out.json')


@pytest.mark.skipif(not hasattr(os, 'geteuid') or os.geteuid() == 0,
                    reason='a superuser ignores permission bits')
def test_no_permission(tmp_path):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        with pytest.raises(PermissionError, match='cannot be written'):
            ensure_writable_dir(tmp_path / 'sub')
    finally:
        tmp_path.chmod(stat.S_IRWXU)


def test_files(tmp_path):
    file = ensure_writable_file(tmp_path / 'a' / 'out.json')
    assert file.parent.is_dir()
    assert not file.exists()
    file = tmp_path / 'out.json'
    file.write_text('old')
    ensure_writable_file(file)
    assert file.read_text() == 'old'
    with pytest.raises(IsADirectoryError, match=str(tmp_path)):
        ensure_writable_file(tmp_path)
