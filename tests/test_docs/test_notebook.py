"""demo/glus_mm.ipynb, run from top to bottom, and as it is committed."""

import base64
import io

import pytest
from PIL import Image

from programs import ROOT

nbformat = pytest.importorskip('nbformat', reason='needs nbclient (the extra "dev")')
NOTEBOOK = ROOT / 'demo' / 'glus_mm.ipynb'


def pictures(notebook):
    return [Image.open(io.BytesIO(base64.b64decode(output['data']['image/png'])))
            for cell in notebook.cells for output in cell.get('outputs', ())
            if 'image/png' in output.get('data', {})]


def figures(notebook):
    """What the last cell prints."""
    return notebook.cells[-1].outputs[0]['data']['text/plain']


def test_it_is_committed_with_its_outputs():
    notebook = nbformat.read(NOTEBOOK, 4)
    nbformat.validate(notebook)
    assert NOTEBOOK.stat().st_size < 1 << 20 and len(pictures(notebook)) == 2
    code = [cell for cell in notebook.cells if cell.cell_type == 'code']
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert "'J&F'" in figures(notebook) and 'pip' in code[0].source
    text = NOTEBOOK.read_text(encoding='utf-8')
    assert 'Traceback' not in text and '/tmp/' not in text, 'nothing of the machine that ran it'


@pytest.mark.slow
def test_it_runs(tmp_path):
    nbclient = pytest.importorskip('nbclient', reason='needs nbclient (the extra "dev")')
    notebook = nbformat.read(NOTEBOOK, 4)
    for cell in notebook.cells:
        cell.pop('outputs', None)
        if cell.cell_type == 'code':
            cell.outputs = []
    nbclient.NotebookClient(notebook, timeout=900, kernel_name='python3', resources=dict(
        metadata=dict(path=str(tmp_path)))).execute()
    assert len(pictures(notebook)) == 2
    assert "'J&F'" in figures(notebook)
    assert (tmp_path / 'glus_mm_notebook' / 'run' / 'iter_24.pth').is_file()
