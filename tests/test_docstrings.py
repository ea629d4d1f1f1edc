"""Every public name says what it takes: arguments, shapes of arrays, errors it raises itself."""

import ast
import re
from pathlib import Path

import glus_mm

PACKAGE = Path(glus_mm.__file__).parent
MODULES = sorted(path for path in PACKAGE.rglob('*.py')
                 if not any(part.startswith(('_', '.')) for part in path.relative_to(PACKAGE).parts)
                 or path.name == '__init__.py')
ARRAY = re.compile(r'\b(Tensor|ndarray)\b')
# Named weights, whose shapes are the model's.
WEIGHTS = re.compile(r'\b(dict|Mapping|MutableMapping|Iterator|Iterable)\[(tuple\[)?str, [^]]*\]')
# (N, C), (K), (h, w), (tokens, mem_dim), (M, 3, P, P), and what has none.
SHAPE = re.compile(r'\([\w.+*-]+(, ?[\w.+* -]+)+\)|\([A-Z][\w+ /*]*\)|scalar|any shape')
OS_ERRORS = ('FileNotFoundError', 'NotADirectoryError', 'IsADirectoryError', 'PermissionError',
             'ConnectionError')
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)
ROOT = PACKAGE.parent
EVERYWHERE = sorted(path for folder in ('glus_mm', 'tools', 'dev', 'demo', 'projects')
                    for path in (ROOT / folder).rglob('*.py'))
# ``runner: the runner.``, ``data_batch: not used.``
FILLER = re.compile(r'^ +\**(\w+)(?: \([^)]*\))?: (?:not used|(?:the|an?) \1)\.$', re.M)


def public_functions(tree):
    """(name, function, docstring that documents it, is it a constructor or a plain function)."""
    for node in tree.body:
        if isinstance(node, FUNCTION) and not node.name.startswith('_'):
            yield node.name, node, ast.get_docstring(node)
        if not isinstance(node, ast.ClassDef) or node.name.startswith('_'):
            continue
        for child in node.body:
            if not isinstance(child, FUNCTION):
                continue
            doc = ast.get_docstring(child) or ''
            if child.name == '__init__':
                yield node.name, child, f'{ast.get_docstring(node)}\n{doc}'
            elif not child.name.startswith('_'):
                yield f'{node.name}.{child.name}', child, doc


def parameters(function):
    names = function.args.posonlyargs + function.args.args + function.args.kwonlyargs
    return [arg for arg in names if arg.arg not in ('self', 'cls')]


def leans_on_another(doc):
    """Whether it says whose contract it keeps: ``see the base class``, ``see :meth:`x```."""
    return re.search(r'\b[Ss]ee |\b[Aa]s (:|in |the )|\bthe class\b|likewise', doc) is not None


def problems(path):
    tree = ast.parse(path.read_text(encoding='utf-8'))
    if not ast.get_docstring(tree):
        yield 'the module has no docstring'
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith('_') \
                and not ast.get_docstring(node):
            yield f'{node.name} has no docstring'
    for name, function, doc in public_functions(tree):
        if not doc or not doc.strip():
            yield f'{name} has no docstring'
            continue
        if leans_on_another(doc):
            continue
        # What is not used, or what its name says.
        used = {node.id for node in ast.walk(function) if isinstance(node, ast.Name)}
        unnamed = [arg.arg for arg in parameters(function)
                   if not re.search(rf'\b{re.escape(arg.arg)}\b', doc) and arg.arg in used
                   and arg.arg not in ('runner', 'model', 'optimizer', 'tokenizer', 'layer')]
        # What a hook is given, MMEngine says.
        is_hook = [arg.arg for arg in parameters(function)[:1]] == ['runner']
        if unnamed and ('Args:' in doc or len(parameters(function)) > 2 and not is_hook):
            yield f'{name} does not describe {", ".join(unnamed)}'
        annotations = [ast.unparse(arg.annotation) for arg in parameters(function)
                       if arg.annotation]
        if function.returns is not None:
            annotations.append(ast.unparse(function.returns))
        annotations = [WEIGHTS.sub('', text) for text in annotations]
        if any(map(ARRAY.search, annotations)) and not SHAPE.search(doc):
            yield f'{name} takes or gives arrays, but its docstring has no shape'
        for error in sorted(raised(function)):
            if error not in doc and not (error in OS_ERRORS and 'OSError' in doc):
                yield f'{name} raises {error}, which its docstring does not say'


def raised(function):
    """Names of the errors that a function raises itself."""
    for node in ast.walk(function):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) \
                and isinstance(node.exc.func, ast.Name) and node.exc.func.id[0].isupper():
            yield node.exc.func.id


def test_public_names_are_documented():
    wrong = [f'{path.relative_to(PACKAGE)}: {what}' for path in MODULES for what in problems(path)]
    assert not wrong, '\n'.join(wrong)
    found = [f'{path.relative_to(ROOT)}: {match[0].strip()}' for path in EVERYWHERE
             for match in FILLER.finditer(path.read_text(encoding='utf-8'))]
    assert not found, 'say shape, unit or meaning, or leave the line out:\n' + '\n'.join(found)


def test_the_test_sees_what_is_missing(tmp_path):
    file = tmp_path / 'bad.py'
    file.write_text('"""A module."""\n'
                    'class A:\n    """A class.\n\n    Args:\n        a: one.\n    """\n'
                    '    def __init__(self, a, b):\n        self.b = b\n'
                    '    def f(self, x: Tensor):\n        """Do x."""\n'
                    '        raise ValueError(1)\n'
                    'def g():\n    pass\n')
    assert list(problems(file)) == [
        'A does not describe b', 'A.f takes or gives arrays, but its docstring has no shape',
        'A.f raises ValueError, which its docstring does not say', 'g has no docstring']
