"""Has moved to dev/random_7b.py."""
import pathlib, runpy, sys  # noqa: E401, I001
sys.path[0] = str(pathlib.Path(__file__).resolve().parents[2] / 'dev')
print('this tool has moved to dev/random_7b.py', file=sys.stderr)
runpy.run_path(f'{sys.path[0]}/random_7b.py', run_name='__main__')
