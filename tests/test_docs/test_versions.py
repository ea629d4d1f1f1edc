"""Figures that were measured say with which versions: beside them, or where all pages point to."""

import re

import pytest

from programs import ROOT

PAGES = [ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md')),
         ROOT / 'checkpoints' / 'README.md', *sorted((ROOT / 'projects').glob('*/README.md'))]
# Its tables of results come with the versions of each run in the records.
PAGES = [page for page in PAGES if page.parent.name != 'ablation_study']
# A number with a unit of time or memory behind a word that says it was measured.
MEASURED = re.compile(r'(measured|takes|took|median|peak|CPU s|CPU time|one worker)[^|]{0,90}?'
                      r'\b\d+(\.\d+)? (s|ms|GB|MB|minutes)\b', re.I)
HOME = 'measurements.md'


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_pages_with_measured_figures_have_the_versions(page):
    text = page.read_text(encoding='utf-8')
    found = MEASURED.search(text)
    assert found is None or HOME in text or re.search(r'torch 2\.\d', text), found[0]


def test_the_versions_have_a_home():
    page, = [page for page in PAGES if page.name == HOME]
    head = page.read_text(encoding='utf-8').partition('\n## ')[0]
    assert all(name in head for name in ('Python 3.', 'torch', 'transformers', 'MMEngine', 'EPYC'))
