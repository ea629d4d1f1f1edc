"""Checkpoint files appear whole or not at all; torn and damaged ones are told from whole ones."""

import multiprocessing
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
from torch import nn

from glus_mm.apis import init_model
from glus_mm.utils.base_weights import complete_state
from glus_mm.utils.checkpoint import BadWeightsError, check_fit, is_finite, model_state_of
from glus_mm.utils.checkpoint_files import (
    atomic_file,
    check_whole,
    choose_resume,
    newest_whole,
    note_checkpoint,
    read_checkpoint,
    remove_parts,
    why_torn,
)
from glus_mm.utils.weight_files import read_weight_file
from programs import ROOT

TINY = ROOT / 'checkpoints' / 'glus_tiny_moving-shapes.pth'


def save(path, value=1.):
    torch.save({'state_dict': {'weight': torch.full((500, ), value)}}, path)
    return path


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_block_that_fails_leaves_the_file_as_it_was(tmp_path):
    file = tmp_path / 'file.pth'
    file.write_text('before')
    with pytest.raises(KeyError), atomic_file(file) as part:
        part.write_text('half')
        assert file.read_text() == 'before'
        raise KeyError('stop')
    assert file.read_text() == 'before' and names(tmp_path) == ['file.pth']
    with atomic_file(file) as part:
        part.write_text('after')
    assert file.read_text() == 'after' and names(tmp_path) == ['file.pth']


def test_a_killed_writer_leaves_the_file_as_it_was(tmp_path):
    save(tmp_path / 'iter_1.pth')
    before = (tmp_path / 'iter_1.pth').read_bytes()
    ours, its = multiprocessing.Pipe()

    def write():
        with atomic_file(tmp_path / 'iter_1.pth') as part:
            part.write_bytes(b'half')
            its.send('ready')
            signal.pause()

    writer = multiprocessing.get_context('fork').Process(target=write)
    writer.start()
    assert ours.poll(60) and ours.recv() == 'ready'
    writer.kill()
    writer.join()
    assert (tmp_path / 'iter_1.pth').read_bytes() == before
    assert names(tmp_path) == ['.iter_1.pth.part', 'iter_1.pth']
    remove_parts(tmp_path)
    assert names(tmp_path) == ['iter_1.pth']


def test_folders_of_parts(tmp_path):
    """As DeepSpeed writes them."""
    folder = tmp_path / 'iter_3.pth'
    folder.mkdir()
    assert 'without parts' in why_torn(folder)
    save(folder / 'mp_rank_00_model_states.pt')
    assert why_torn(folder) is None
    (folder / 'zero_optim_states.pt').write_bytes(b'PK')
    assert why_torn(folder).startswith('zero_optim_states.pt: its end is missing')


def run_folder(folder, numbers, noted=None):
    """A work folder with checkpoints, written in this order, and ``last_checkpoint``."""
    for i, number in enumerate(numbers):
        path = save(folder / f'iter_{number}.pth')
        os.utime(path, ns=(i * 10**9, i * 10**9))
    if noted is not None:
        note_checkpoint(folder, folder / f'iter_{noted}.pth')


def newest(folder):
    path, torn = newest_whole(folder)
    return path and path.name, len(torn)


def test_the_noted_one_is_the_newest(tmp_path):
    assert newest(tmp_path) == (None, 0) and choose_resume(tmp_path) is None
    run_folder(tmp_path, [5, 10, 15], noted=15)
    assert newest(tmp_path) == ('iter_15.pth', 0)
    assert choose_resume(tmp_path) == tmp_path / 'iter_15.pth'
    run_folder(tmp_path, [5, 10, 15], noted=10)
    assert newest(tmp_path) == ('iter_15.pth', 0)


def test_a_run_that_was_taken_back_does_not_jump_to_its_old_future(tmp_path):
    run_folder(tmp_path, [15, 20, 5, 10], noted=10)
    assert newest(tmp_path) == ('iter_10.pth', 0)
    for name in ('iter_10.pth', 'iter_5.pth'):
        (tmp_path / name).write_bytes(b'')
    assert newest(tmp_path) == ('iter_20.pth', 2), 'better than nothing'


@pytest.mark.parametrize('noted', [15, None])
def test_torn_ones_are_skipped_with_a_message(tmp_path, noted):
    run_folder(tmp_path, [5, 10, 15], noted)
    os.truncate(tmp_path / 'iter_15.pth', 700)
    os.truncate(tmp_path / 'iter_10.pth', 0)
    save(tmp_path / 'best_J&F_iter_15.pth')
    path, torn = newest_whole(tmp_path)
    assert path == tmp_path / 'iter_5.pth'
    assert [line.split('/')[-1] for line in torn] == [
        'iter_15.pth: its end is missing, or it is no checkpoint', 'iter_10.pth: it is empty']


def test_nothing_whole_is_left(tmp_path, logged):
    run_folder(tmp_path, [5], noted=5)
    os.truncate(tmp_path / 'iter_5.pth', 700)
    assert choose_resume(tmp_path) is None
    message = ' '.join(logged)
    assert 'skipped the torn checkpoint' in message and 'the run starts afresh' in message


def test_notes(tmp_path):
    run_folder(tmp_path, [5, 10], noted=10)
    (tmp_path / 'iter_10.pth').unlink()
    assert newest(tmp_path) == ('iter_5.pth', 1)
    (tmp_path / 'iter_5.pth').unlink()
    with pytest.raises(FileNotFoundError, match=r'iter_10\.pth; to start afresh, remove'):
        choose_resume(tmp_path)
    (tmp_path / 'text.pth').write_text('weights')
    with pytest.raises(ValueError, match=r'text\.pth'):
        read_checkpoint(tmp_path / 'text.pth')
    torch.save({'object': names}, tmp_path / 'object.pth')
    with pytest.raises(ValueError, match='objects are never loaded'):
        read_checkpoint(tmp_path / 'object.pth')


def test_moved_folder_and_half_a_note(tmp_path):
    (tmp_path / 'then').mkdir()
    run_folder(tmp_path / 'then', [5, 10, 7], noted=7)
    (tmp_path / 'then').rename(tmp_path / 'now')
    assert newest_whole(tmp_path / 'now')[0] == tmp_path / 'now' / 'iter_7.pth'
    (tmp_path / 'now' / 'last_checkpoint').write_text('')
    assert newest(tmp_path / 'now') == ('iter_10.pth', 0)


def test_checkpoints_in_another_folder(tmp_path):
    (tmp_path / 'run').mkdir()
    (tmp_path / 'out').mkdir()
    run_folder(tmp_path / 'out', [5, 10])
    note_checkpoint(tmp_path / 'run', tmp_path / 'out' / 'iter_10.pth')
    assert newest_whole(tmp_path / 'run')[0] == tmp_path / 'out' / 'iter_10.pth'
    os.truncate(tmp_path / 'out' / 'iter_10.pth', 10)
    assert newest_whole(tmp_path / 'run')[0] == tmp_path / 'out' / 'iter_5.pth'


@pytest.mark.parametrize('content', [
    b'e', b'error: 101', b'no checkpoint at all', b'\x80\x02}q\x00.', b'PK\x05\x06' + bytes(18),
    b'(lp0\n.', bytes(600), b'\xff' * 70])
def test_a_file_that_is_no_checkpoint_is_named(tmp_path, content):
    path = tmp_path / 'model.pth'
    path.write_bytes(content)
    try:
        read = read_checkpoint(path)
    except ValueError as error:
        assert 'model.pth' in str(error) and '\n' not in str(error), str(error)
    else:
        with pytest.raises(ValueError, match='with named tensors'):
            model_state_of(read, str(path))


@pytest.mark.parametrize('tensor', [
    torch.zeros(2, device='meta'), torch.eye(2).to_sparse(), torch.eye(2).to_sparse_csr()])
def test_tensors_without_plain_values_are_refused(tmp_path, tensor):
    path = tmp_path / 'model.pth'
    torch.save(dict(state_dict=dict(good=torch.zeros(1), bad=tensor)), path)
    with pytest.raises(ValueError, match=r'dense tensors with values(.|\n)*bad: '):
        complete_state(read_checkpoint(path), path)


@pytest.mark.parametrize('entry', [
    3, {}, dict(path=1, relative='x', parameters={}), dict(path='x', relative='x', parameters=[]),
    dict(path='x', relative='x', parameters=dict(a='b')),
    dict(path='x', relative='x', parameters=dict(a=['b', 3]))])
def test_a_base_that_cannot_be_understood(tmp_path, entry):
    path = tmp_path / 'model.pth'
    torch.save(dict(state_dict=dict(a=torch.zeros(1)), base=entry), path)
    with pytest.raises(ValueError, match="expected under 'base' .*model.pth"):
        complete_state(read_checkpoint(path), path)


def flip_bytes(path, at=0.5):
    """Flip two bytes in the middle of a file, which are some parameter's."""
    content = bytearray(path.read_bytes())
    place = int(len(content) * at)
    content[place] ^= 0xff
    content[place + 1] ^= 0xff
    path.write_bytes(content)
    return path


@pytest.fixture
def damaged(tmp_path):
    return flip_bytes(Path(shutil.copy(TINY, tmp_path / 'model.pth')))


def test_flipped_bytes_are_seen_by_all_readers(damaged):
    assert torch.load(damaged, weights_only=True), 'torch does not mind'
    assert 'is damaged' in why_torn(damaged)
    for read in (check_whole, read_checkpoint, read_weight_file):
        with pytest.raises(ValueError, match=r'damaged one \(its part .*model\.pth'):
            read(damaged)
    with pytest.raises(ValueError, match='damaged one'):
        init_model('configs/glus/glus_tiny_moving-shapes.py', damaged)
    with pytest.raises(ValueError, match='damaged'):
        check_whole(damaged)
    shutil.copy(TINY, damaged)
    check_whole(damaged)
    assert why_torn(damaged) is None


@pytest.mark.parametrize('at', [0.2, 0.5, 0.8, 0.98])
def test_any_part_of_the_file(tmp_path, at):
    file = tmp_path / 'model.pth'
    torch.save({'state_dict': {'w': torch.rand(5000)}}, file)
    assert why_torn(file) is None
    assert why_torn(flip_bytes(file, at)) is not None


def test_cut_anywhere(tmp_path):
    """Also where torch's reader for old files looks for a place before the start."""
    file = tmp_path / 'model.pth'
    torch.save({'state_dict': {'w': torch.rand(50)}}, file)
    whole = file.read_bytes()
    for length in [*range(8), *range(8, len(whole), 97), len(whole) - 1]:
        for content in (whole[:length], b'\x80' * length):
            file.write_bytes(content)
            assert why_torn(file), length
            with pytest.raises(ValueError, match=r'model\.pth'):
                read_checkpoint(file)


@pytest.mark.parametrize('value', [float('nan'), float('-inf')])
def test_values_that_are_not_finite(tmp_path, value):
    content = torch.load(TINY, weights_only=True)
    state = content.get('state_dict', content)
    name = next(key for key, value in state.items() if value.is_floating_point())
    state[name].view(-1)[-1] = value
    torch.save(content, tmp_path / 'model.pth')
    with pytest.raises(BadWeightsError, match=rf'model.pth\nNaN or infinite \(1\):\n  {name}'):
        init_model('configs/glus/glus_tiny_moving-shapes.py', tmp_path / 'model.pth')


def test_types_of_weights():
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    state = {key: value.clone() for key, value in model.state_dict().items()}
    assert check_fit(model, state, 'here') == []
    for dtype in (torch.int8, torch.bool, torch.complex64):
        state['0.weight'] = torch.ones(3, 3).to(dtype)
        with pytest.raises(BadWeightsError, match=r'here\nother type \(1\):\n  0.weight'):
            check_fit(model, state, 'here')
    model = nn.Linear(2, 2)
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        assert check_fit(model, {k: v.to(dtype) for k, v in model.state_dict().items()}, '') == []
    assert is_finite(torch.zeros(0)) and is_finite(torch.tensor([1]))
    assert not is_finite(torch.tensor([[1., float('nan')]], dtype=torch.bfloat16))
