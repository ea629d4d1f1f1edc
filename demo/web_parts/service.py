"""Segment the videos of users, who may send anything."""

import secrets
import time
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

from glus_mm.apis.glus_inferencer import GLUSInferencer
from glus_mm.apis.video_run import untaught_words
from glus_mm.text.prompt import MAX_EXPRESSION_LENGTH, clean_expression
from glus_mm.video import FrameReader
from glus_mm.visualization import RefVOSLocalVisualizer
from web_parts.run import Preview, SegmentationResult, SegmentationRun
from web_parts.store import TemporaryStore, WebInputError, WebLimits
from web_parts.video import open_limited_video


class SegmentationService:
    """Checks what comes, segments it and leaves the result in a store.

    Args:
        inferencer: holds the model.
        store: gets the results.
        limits: of every run.
    """

    def __init__(self, inferencer: GLUSInferencer, store: TemporaryStore,
                 limits: WebLimits | None = None) -> None:
        self.inferencer = inferencer
        self.store = store
        self.limits = limits or WebLimits()
        self._open: OrderedDict[str, tuple[SegmentationRun, FrameReader]] = OrderedDict()
        self._visualizer = RefVOSLocalVisualizer('web', min_width=640, legend_position='below')

    def parse_texts(self, text: str) -> tuple[str, ...]:
        """Take a text apart into expressions, one for each line.

        Args:
            text: what was typed; empty lines are left out.

        Returns:
            (E) expressions.

        Raises:
            WebInputError: there is none, too many, or one that the model cannot take.
        """
        most = self.limits.max_texts
        if not isinstance(text, str):
            raise WebInputError(f'expected text, got {type(text).__name__}')
        if len(text) > most * (MAX_EXPRESSION_LENGTH + 2):
            raise WebInputError(f'expected at most {most} expressions of {MAX_EXPRESSION_LENGTH} '
                                f'characters, got {len(text)} characters')
        texts = tuple(line.strip() for line in text.splitlines() if line.strip())
        if not texts:
            raise WebInputError('expected an expression, such as "the red circle", got none')
        if len(texts) > most:
            raise WebInputError(f'expected at most {most} expressions, one on each line, got '
                                f'{len(texts)}')
        for i, line in enumerate(texts):
            try:
                text = clean_expression(line)
            except ValueError as error:
                raise WebInputError(f'line {i + 1}: {error}') from error
            tokens = len(self.inferencer.model.mllm.tokenizer.encode(text))
            if tokens > self.limits.max_tokens:
                raise WebInputError(f'line {i + 1}: expected at most {self.limits.max_tokens} '
                                    f'tokens, as the model counts them, got {tokens}; use fewer '
                                    'words')
        return texts

    def segment(self, video: str | Path | None, text: str, max_fps: float | None = None
                ) -> Iterator[Preview | SegmentationResult]:
        """Segment a video; closing the iterator stops the work.

        Args:
            video: the file; None where nothing was chosen.
            text: expressions, one on each line.
            max_fps: frames per second to segment at most; None or 0 means all frames.

        Yields:
            Previews while the masks are made, then the result.

        Raises:
            WebInputError: the user asked for something that cannot be done.
        """
        if not video:
            raise WebInputError('expected a video: upload one, or pick a sample')
        texts = self.parse_texts(text)
        self.store.touch(video)
        self.store.trim()
        reader = open_limited_video(video, self.limits, max_fps or None)
        start, keep = time.monotonic(), False
        try:
            run = SegmentationRun(self.inferencer, reader, texts, self._visualizer,
                                  self.limits.max_work_seconds)
            yield from run.previews()
            seconds = time.monotonic() - start
            untaught = untaught_words(self.inferencer.model, texts)
            notes = [f'The model {untaught}.'] if untaught else []
            keep = run.session is not None
            key = self._keep(run, reader) if keep else ''
            yield SegmentationResult.write(self.store.new_folder(), reader, run, texts,
                                           self.inferencer.model, seconds, notes, key)
        finally:
            if not keep:
                reader.close()

    def refine(self, result: SegmentationResult, expression: int, frame_idx: int,
               place: tuple[float, float], label: int) -> tuple[SegmentationResult, list[int]]:
        """Correct the masks of a run by a click on a frame that it has drawn.

        Args:
            result: of the run, or of its last click.
            expression: its number.
            frame_idx: 0-based position of the frame.
            place: (x, y) in pixels of the drawn frame.
            label: 1 on the object, 0 off it.

        Returns:
            The result with the new masks, and the frames whose masks are new.

        Raises:
            WebInputError: the click is outside the frame, or the video is no longer open.
        """
        run, reader = self._opened(result)
        (x, y), (shown_width, shown_height) = place, run.shown_size()
        height, width = reader.shape
        point = x * width / shown_width, y * height / shown_height
        try:
            changed = run.session.refine(expression, frame_idx, [point], [label])
        except ValueError as error:
            raise WebInputError(str(error)) from error
        return self._renewed(result, run, reader), changed

    def undo(self, result: SegmentationResult) -> tuple[SegmentationResult, list[int]]:
        """Take the last click of a run back; see :meth:`refine`."""
        run, reader = self._opened(result)
        try:
            changed = run.session.undo()
        except ValueError as error:
            raise WebInputError(str(error)) from error
        return self._renewed(result, run, reader), changed

    def _keep(self, run: SegmentationRun, reader: FrameReader) -> str:
        """Keep a video open for clicks; the oldest ones are closed."""
        key = secrets.token_hex(8)
        self._open[key] = run, reader
        while len(self._open) > self.limits.max_open_videos:
            self._open.popitem(last=False)[1][1].close()
        return key

    def _opened(self, result: SegmentationResult) -> tuple[SegmentationRun, FrameReader]:
        if not result.key:
            raise WebInputError('this model, or a video that breaks off, takes no clicks')
        if result.key not in self._open:
            raise WebInputError(f'the video is closed, as {self.limits.max_open_videos} others '
                                'were opened since; press Segment again')
        self._open.move_to_end(result.key)
        return self._open[result.key]

    def _renewed(self, result: SegmentationResult, run: SegmentationRun, reader: FrameReader
                 ) -> SegmentationResult:
        """Files of their own, as somebody may be fetching those of before."""
        self.store.trim()
        return SegmentationResult.write(self.store.new_folder(), reader, run, result.texts,
                                        self.inferencer.model, result.seconds, (), result.key)
