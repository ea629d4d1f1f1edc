"""The web demo as a Space on the Hugging Face hub; docs/web_demo.md says how one is made."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
# In a Space the page lies beside this file, here in the folder above.
sys.path[:0] = [str(HERE), str(HERE.parent)]

from web_demo import main  # noqa: E402

if __name__ == '__main__':
    main(['--host', '0.0.0.0', '--port', '7860', *sys.argv[1:]])
