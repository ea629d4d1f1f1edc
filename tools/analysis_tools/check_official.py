"""Has moved to dev/check_official.py."""
import pathlib, runpy, sys  # noqa: E401, I001
sys.path[0] = str(pathlib.Path(__file__).resolve().parents[2] / 'dev')
print('this tool has moved to dev/check_official.py', file=sys.stderr)
runpy.run_path(f'{sys.path[0]}/check_official.py', run_name='__main__')
