"""The log of a run on the screen: what somebody reads; all the rest goes into its file."""

import logging
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from mmengine import Config
from mmengine.dist import get_rank
from mmengine.logging import MMLogger
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from glus_mm.utils.error_text import user_error_text

# How MMEngine's tables begin or end: a line for each parameter, the config, the machine, the hooks.
_TABLES = ('paramwise_options -- ', 'Config:\n', 'Hooks will be executed in the following order')
_FROZEN = 'is skipped since its requires_grad=False'
# What can be the user's doing once the work has begun; anything else keeps its traceback.
_USER = (ImportError, OSError, KeyError, TypeError, ValueError, FloatingPointError, RuntimeError)


def build_runner(cfg: Config) -> Runner:
    """Build the Runner of a config, with a log that can be read.

    The screen and the levels from INFO on have what happens; MMEngine's tables are in the log file
    too, at the level DEBUG, and its warning of every frozen parameter is one line with their
    number.
    """
    make = MMLogger.__init__

    def make_readable(self: MMLogger, *args: object, **kwargs: object) -> None:
        make(self, *args, **kwargs)
        for handler in self.handlers:
            if isinstance(handler, logging.FileHandler) and handler.level == logging.INFO:
                handler.setLevel(logging.DEBUG)
        self.addFilter(_Tables(self))

    # The Runner makes its logger and logs through it in one go; nothing else lets one in between.
    MMLogger.__init__ = make_readable
    try:
        return RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    finally:
        MMLogger.__init__ = make


class _Tables(logging.Filter):
    """Gives MMEngine's tables the level DEBUG, and counts frozen parameters."""

    def __init__(self, logger: logging.Logger) -> None:
        super().__init__()
        self.logger = logger
        self.frozen = 0

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.msg if isinstance(record.msg, str) else ''
        frozen = text.endswith(_FROZEN)
        if frozen or text.startswith(_TABLES) or '\nSystem environment:' in text[:200]:
            self.frozen += frozen
            record.levelno, record.levelname = logging.DEBUG, 'DEBUG'
        elif self.frozen and record.levelno > logging.DEBUG:
            number, self.frozen = self.frozen, 0
            self.logger.info(f'{number} frozen parameters are left out of the optimizer')
        return True


@contextmanager
def one_line_errors(prog: str) -> Iterator[None]:
    """Around the work of a tool: what ends it is told in one line, the traceback in the log file.

    Where there is no log file, as in all processes but the first, an error that may be a bug keeps
    its traceback.

    Raises:
        SystemExit: with status 1 after such an error.
    """
    try:
        yield
    except _USER as error:
        files = [handler for handler in MMLogger.get_current_instance().handlers
                 if isinstance(handler, logging.FileHandler)]
        if not files and isinstance(error, (RuntimeError, TypeError)):
            raise
        text = traceback.format_exc()
        for handler in files:
            handler.handle(logging.LogRecord(
                'mmengine', logging.ERROR, __file__, 0, text, None, None))
        where = f' (traceback in {files[0].baseFilename})' if files else ''
        place = f' process {get_rank()}:' if get_rank() else ''
        sys.stderr.write(f'{prog}:{place} error: {user_error_text(error) or type(error).__name__}'
                         f'{where}\n')
        raise SystemExit(1) from None
