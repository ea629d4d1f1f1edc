"""Sphinx: pages in Markdown (MyST), the reference from docstrings. Built by ``make docs``."""

import re
from importlib import import_module
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.util import logging

from glus_mm.version import __version__

project = 'glus_mm'
author = 'The glus_mm authors'
copyright = f'2026, {author}'
version = release = __version__

extensions = ['myst_nb', 'sphinx.ext.autodoc', 'sphinx.ext.autosummary', 'sphinx.ext.napoleon',
              'sphinx.ext.viewcode']
# A block without a language is what a terminal shows.
highlight_language = 'none'
# myst_nb reads both; the notebook is shown with the pictures that it was committed with.
source_suffix = {'.md': 'myst-nb', '.ipynb': 'myst-nb'}
nb_execution_mode = 'off'
# README.md is the index on GitHub; index.md is the one here.
exclude_patterns = ['_build', 'README.md']
html_theme = 'furo'
html_title = f'glus_mm {release}'

myst_enable_extensions = ['colon_fence', 'dollarmath']
myst_heading_anchors = 3
# A class that a package re-exports has more than one name; any of them will do as a target.
suppress_warnings = ['ref.python']

autosummary_generate = False  # tables only: the entries are on the page itself
autodoc_default_options = {'show-inheritance': True, 'special-members': '__call__'}
autodoc_member_order = 'bysource'
autodoc_typehints = 'signature'
autodoc_typehints_format = 'short'
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
napoleon_custom_sections = [
    ('Metainfo', 'params_style'), ('Class attributes', 'params_style'),
    ('Data fields', 'params_style'),
]

DOCS = Path(__file__).parent
logger = logging.getLogger(__name__)


def complete_index(app: Sphinx, docname: str, source: list[str]) -> None:
    """Put the list of README.md into the index."""
    if docname == 'index':
        listed = (DOCS / 'README.md').read_text(encoding='utf-8').partition('\n')[2]
        source[0] = source[0].replace('README', listed)


def name_outside_files(app: Sphinx, docname: str, source: list[str]) -> None:
    """Links to files outside docs/ work on GitHub; here they become the file's path."""
    if not docname.startswith('api/'):
        source[0] = re.sub(r'\[([^]]+)\]\((?:\.\./)+([^)#]+)(?:#[^)]*)?\)', _as_path, source[0])


def _as_path(link: re.Match) -> str:
    text, path = link.groups()
    if not (DOCS.parent / path).exists():
        logger.warning('a page links to %s, which is not there', path)
    return f'`{path}`' if text.strip('`/') in path else f'{text} (`{path}`)'


def name_once(app: Sphinx, docname: str, source: list[str]) -> None:
    """Begin each module with a table of its public names; one module of a page shows each."""
    shown = re.findall(r'automodule:: (\S+)', source[0])
    for package in shown if docname.startswith('api/') else ():
        inside = [name for name in shown if name.startswith(f'{package}.')]
        inner = tuple(f'{name}.' for name in inside)
        exported = {name for home in inside for name in getattr(import_module(home), '__all__', ())}
        module = import_module(package)
        homes = {name: getattr(getattr(module, name), '__module__', '') for name in getattr(
            module, '__all__', [name for name in vars(module) if not name.startswith('_')])}
        twice = [name for name, home in homes.items()
                 if inner and (name in exported or f'{home}.'.startswith(inner))]
        names = [name for name, home in homes.items()
                 if name not in twice and (hasattr(module, '__all__') or home == package)]
        line = f'.. automodule:: {package}\n'
        table = ''.join(f'   {package}.{name}\n' for name in names if homes[name])
        if table:  # full names, whatever module the one before on the page has set
            table = f'.. currentmodule:: None\n\n.. autosummary::\n   :nosignatures:\n\n{table}\n'
        left_out = f'   :exclude-members: {", ".join(twice)}\n' if twice else ''
        source[0] = source[0].replace(line, f'{table}{line}{left_out}')


def setup(app: Sphinx) -> None:
    """Connect the functions above."""
    app.connect('source-read', complete_index)
    app.connect('source-read', name_outside_files)
    app.connect('source-read', name_once)
