"""Has moved to dev/speed_levels.py."""
import pathlib, runpy, sys  # noqa: E401, I001
sys.path[0] = str(pathlib.Path(__file__).resolve().parents[2] / 'dev')
print('this tool has moved to dev/speed_levels.py', file=sys.stderr)
runpy.run_path(f'{sys.path[0]}/speed_levels.py', run_name='__main__')
