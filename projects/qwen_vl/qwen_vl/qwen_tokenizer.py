"""The tokenizer of Qwen2.5-VL and Qwen3-VL with a ``[SEG]`` token."""

from pathlib import Path

from transformers import AddedToken, AutoTokenizer

SEG_TOKEN = '[SEG]'
IMAGE_TOKENS = ('<|vision_start|>', '<|image_pad|>', '<|vision_end|>')
TURN_TOKENS = ('<|im_start|>', '<|im_end|>')

SHIPPED_TOKENIZERS = {'qwen-tiny': Path(__file__).resolve().parent / 'assets' / 'tiny'}


class QwenTokenizer:
    """Qwen's byte-level tokenizer as transformers loads it, plus ``[SEG]``.

    Args:
        name_or_folder: ``'qwen-tiny'`` (ships with this project), a folder, or a name on the hub.

    Raises:
        FileNotFoundError: there is no such folder, and the hub has no such name or cannot be
            reached.
        ValueError: the tokenizer lacks a token that Qwen's chat format needs.
    """

    def __init__(self, name_or_folder: str) -> None:
        folder = SHIPPED_TOKENIZERS.get(name_or_folder, name_or_folder)
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(folder)
        except OSError as error:
            raise FileNotFoundError(
                f'expected one of {sorted(SHIPPED_TOKENIZERS)}, a folder with a Qwen tokenizer or '
                f'a name on the hub that can be reached, got {name_or_folder!r}: {error}'
            ) from error
        known = self._tokenizer.get_vocab()
        missing = [token for token in (*TURN_TOKENS, *IMAGE_TOKENS) if token not in known]
        if missing:
            raise ValueError('expected a tokenizer of Qwen-VL, one that has '
                             f'{missing}, got {name_or_folder!r}')
        # White space before it belongs to it, so that a prompt may end in the word before.
        self._tokenizer.add_tokens(
            [AddedToken(SEG_TOKEN, lstrip=True, normalized=False)], special_tokens=True)
        self.seg_id, self.vision_start_id, self.image_id, self.end_id = (
            self._tokenizer.convert_tokens_to_ids(token)
            for token in (SEG_TOKEN, *IMAGE_TOKENS[:2], TURN_TOKENS[1]))

    def __len__(self) -> int:
        """Number of ids, ``[SEG]`` included."""
        return len(self._tokenizer)

    @property
    def pad_id(self) -> int:
        """Id of padding, which no position that is read ever sees."""
        return self.end_id

    @property
    def markers(self) -> tuple[str, ...]:
        """Texts that become one added token and may not stand in an expression."""
        return tuple(self._tokenizer.get_added_vocab())

    def encode(self, text: str) -> list[int]:
        """Ids of a text; special tokens in it become their ids, nothing is put around it."""
        return self._tokenizer(text, add_special_tokens=False).input_ids

    def decode(self, ids: list[int]) -> str:
        """The text of ids, special tokens included."""
        return self._tokenizer.decode(ids)
