"""Segment the videos of users, who may send anything."""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from glus_mm.apis.glus_inferencer import GLUSInferencer
from glus_mm.text.prompt import MAX_EXPRESSION_LENGTH, clean_expression
from glus_mm.visualization import RefVOSLocalVisualizer
from web_parts.limits import WebInputError, WebLimits
from web_parts.result import SegmentationResult
from web_parts.run import Preview, SegmentationRun
from web_parts.store import TemporaryStore
from web_parts.video import open_limited_video


class SegmentationService:
    """Checks what comes, segments it and leaves the result in a store.

    Args:
        inferencer: holds the model.
        store: gets the results.
        limits: of every run.
        unknown_words: gives the words of some texts that the model was never taught, which a note
            then says; None where that is not known.
    """

    def __init__(self, inferencer: GLUSInferencer, store: TemporaryStore,
                 limits: WebLimits | None = None,
                 unknown_words: Callable[[Sequence[str]], list[str]] | None = None) -> None:
        self.inferencer = inferencer
        self.store = store
        self.unknown_words = unknown_words
        self.limits = limits or WebLimits()
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
        start = time.monotonic()
        try:
            run = SegmentationRun(self.inferencer, reader, texts, self._visualizer,
                                  self.limits.max_work_seconds)
            yield from run.previews()
            seconds = time.monotonic() - start
            unknown = self.unknown_words(texts) if self.unknown_words else ()
            notes = [f'The model was never taught: {", ".join(unknown)}.'] if unknown else []
            yield SegmentationResult.write(self.store.new_folder(), reader, run, texts,
                                           self._visualizer, seconds, notes)
        finally:
            reader.close()
