"""Now a part of publish_model.py, of which this is ``--config CONFIG --dtype keep``."""
import pathlib, runpy, sys  # noqa: E401, I001
print('merge_lora.py CONFIG CHECKPOINT OUT is now publish_model.py CHECKPOINT OUT --config CONFIG '
      '--dtype keep', file=sys.stderr)
sys.argv[1:] = [*sys.argv[2:4], '--config', *sys.argv[1:2], '--dtype', 'keep', *sys.argv[4:]]
runpy.run_path(str(pathlib.Path(__file__).with_name('publish_model.py')), run_name='__main__')
