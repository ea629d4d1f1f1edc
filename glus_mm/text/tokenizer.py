"""SentencePiece tokenizer with the added tokens of GLUS and its official white-space rules."""

import functools
import re
from collections.abc import Mapping
from pathlib import Path

import sentencepiece

from glus_mm.utils.checked import checked
from glus_mm.utils.hub import download, is_hub_name
from glus_mm.utils.json_file import read_json_object

SEG_TOKEN = '[SEG]'
SCORE_TOKEN = '[SCORE]'
IM_START_TOKEN = '<im_start>'
IM_END_TOKEN = '<im_end>'
REQUIRED_TOKENS = (SEG_TOKEN, IM_START_TOKEN, IM_END_TOKEN)

SHIPPED_TOKENIZERS = {'tiny': Path(__file__).resolve().parent / 'assets' / 'tiny'}

FROM_WEIGHTS = 'load_from'
"""Stands in a config for the tokenizer that comes with the weights; filled in before building."""

TOKENIZER_FILES = ('tokenizer.model', 'added_tokens.json', 'tokenizer_config.json',
                   'special_tokens_map.json')
"""Files of the slow Llama tokenizer."""
_SPECIAL = ('bos_token', 'eos_token', 'unk_token', 'sep_token', 'pad_token', 'cls_token',
            'mask_token')
# With others there would be other ids.
_SETTINGS = {'legacy': True, 'add_bos_token': True, 'add_eos_token': False}


class SegTokenizer:
    """A Llama SentencePiece tokenizer plus ``[SEG]``, ``<im_start>`` and ``<im_end>``.

    It gives the ids of the slow ``LlamaTokenizer`` of transformers 4.31 (``legacy=True``), which
    the published weights were trained with and which later versions do not reproduce:

    * the text is split at added tokens and at the special tokens ``<s>``, ``</s>``, ``<unk>``;
    * white space that touches an added token is stripped on both sides, none is stripped
      around a special token, unless ``stripping`` says otherwise;
    * every text chunk between tokens gets SentencePiece's dummy prefix again.

    Hugging Face's ``tokenizers`` could split and strip (``AddedToken``), but does not read
    ``tokenizer.model``: that takes the schema of SentencePiece's protobuf, and LLaMA's merges
    worked out from the pieces at every start, more than is written here. SentencePiece reads it.

    Instances can be pickled (data-loader workers).

    Args:
        model_file: the SentencePiece model.
        added_tokens: text of each added token to its id. The ids follow the
            SentencePiece vocabulary without a gap. A token that the model itself has under the
            same id (``{"</s>": 2}`` in older checkpoints) may be listed and adds nothing.
        stripping: for single tokens, whether white space
            to the left and to the right is stripped, as :func:`read_stripping` finds it.
        cache_size: number of text chunks whose ids are remembered; 0 turns it off.
            Defaults to 4096.
        answer_token: the token that answers consist of, whose id is ``seg_id``. One that
            the added tokens lack follows them. Defaults to ``[SEG]``.

    Attributes:
        bos_id (int): id of ``<s>``.
        eos_id (int): id of ``</s>``.
        pad_id (int): id used for padding: ``<unk>``, as in the official code.
        seg_id (int): id of the answer token, ``[SEG]`` unless it is another one.
        im_start_id, im_end_id (int): ids of ``<im_start>`` and ``<im_end>``.
        markers (tuple[str]): texts that :meth:`encode` turns into one special or added token.

    Raises:
        FileNotFoundError: ``model_file`` does not exist.
        ValueError: the file is no SentencePiece model, a required token is missing, or ids
            collide or leave a gap.

    Examples:
        >>> tokenizer = SegTokenizer.from_pretrained('tiny')
        >>> tokenizer.encode('[SEG]') == [tokenizer.seg_id]
        True
        >>> tokenizer.decode(tokenizer.encode('the red circle'))
        'the red circle'
    """

    def __init__(self, model_file: str | Path, added_tokens: dict[str, int],
                 stripping: Mapping[str, tuple[bool, bool]] | None = None, cache_size: int = 4096,
                 answer_token: str = SEG_TOKEN) -> None:
        model_file = Path(model_file)
        if not model_file.is_file():
            raise FileNotFoundError(f'expected a SentencePiece model, found no file {model_file}')
        checked(0, cache_size=cache_size)
        self.model_file = str(model_file)
        self.cache_size = cache_size
        self._model_proto = model_file.read_bytes()
        self._load_model()
        self._added = self._check_added_tokens(added_tokens)
        self.answer_token = answer_token
        self._added.setdefault(answer_token, len(self))
        self._stripping = dict(stripping or {})
        unknown = [text for text in self._stripping
                   if text not in self._special_ids() | self._added]
        if unknown:
            raise ValueError(
                f'expected special tokens that have an id, but {unknown} are neither among the '
                f'added tokens {self._added} nor special in {self.model_file}')
        self._build_tables()

    @classmethod
    def from_pretrained(cls, name_or_folder: str | Path, cache_size: int = 4096,
                        answer_token: str = SEG_TOKEN) -> 'SegTokenizer':
        """Load a shipped tokenizer, the one of a checkpoint folder, or one from the hub.

        Args:
            name_or_folder: ``'tiny'`` (shipped with the package), or a folder in the
                layout of the slow Llama tokenizer: ``tokenizer.model`` and ``added_tokens.json``,
                or, without the latter, ``added_tokens_decoder`` in ``tokenizer_config.json``, or
                the name ``org/name`` of a repository with such files; only they are downloaded.
                A folder that is itself called "tiny" is reached as ``./tiny``. Settings in
                ``tokenizer_config.json`` and ``special_tokens_map.json`` are honoured where there
                are such files.
            cache_size, answer_token: as in the constructor.

        Raises:
            ConnectionError: it is the name of a repository, and the hub cannot be reached.
            FileNotFoundError: the folder or its ``tokenizer.model`` does not exist.
            ValueError: the added tokens are missing or inconsistent (the file is named), a
                setting is one that is not supported, or the name is the placeholder
                ``'load_from'``.
        """
        folder = tokenizer_folder(name_or_folder)
        model_file = folder / 'tokenizer.model'
        if not model_file.is_file():
            raise FileNotFoundError(
                f'expected the SentencePiece model {model_file}, but it does not exist '
                '(a tokenizer.json of the fast tokenizer is not read)')
        source, added_tokens = read_added_tokens(folder)
        config = _read_if_there(folder / 'tokenizer_config.json')
        for key, expected in _SETTINGS.items():
            value = config.get(key)
            if value is not None and value != expected:
                raise ValueError(
                    f'expected {key} {expected} in {folder / "tokenizer_config.json"}, as LLaVA '
                    f'v1, LISA and GLUS have it, but got {value!r}')
        stripping = read_stripping(folder)
        try:
            return cls(model_file, added_tokens, stripping, cache_size, answer_token)
        except ValueError as error:
            raise ValueError(f'{error} (added tokens read from {source})') from error

    def __len__(self) -> int:
        """Number of ids: SentencePiece vocabulary and added tokens."""
        return self._num_pieces + len(self._added)

    def __getstate__(self) -> dict:
        # The SentencePiece handle and the cache are rebuilt from the model's bytes.
        names = ('model_file', 'cache_size', '_model_proto', '_added', '_stripping',
                 'answer_token')
        return {name: self.__dict__[name] for name in names}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._load_model()
        self._build_tables()

    @property
    def added_tokens(self) -> dict[str, int]:
        """Added tokens (copy), text to id."""
        return dict(self._added)

    def same_ids(self, other: 'SegTokenizer') -> bool:
        """Whether another tokenizer gives the same ids for every text."""
        return all(getattr(self, name) == getattr(other, name)
                   for name in ('_model_proto', '_added', '_strips', 'answer_token'))

    def encode(self, text: str, add_bos: bool = False) -> list[int]:
        """Turn text into ids.

        Args:
            text: the text; added and special tokens in it become their ids.
            add_bos: whether ``<s>`` is put first. Defaults to False.
        """
        chunks = self._pattern.split(text)
        # An odd number of chunks: text at even positions (may be ''), tokens at odd ones.
        for i in range(1, len(chunks), 2):
            left, right = self._strips[chunks[i]]
            if left:
                chunks[i - 1] = chunks[i - 1].rstrip()
            if right:
                chunks[i + 1] = chunks[i + 1].lstrip()
        ids = [self.bos_id] if add_bos else []
        for i, chunk in enumerate(chunks):
            if i % 2:
                ids.append(self._marker_ids[chunk])
            elif chunk:
                ids.extend(self._encode_chunk(chunk))
        return ids

    def decode(self, ids: list[int]) -> str:
        """Turn ids back into text.

        Text without added tokens comes back unchanged. White space next to added tokens was lost
        while encoding and is not put back.

        Args:
            ids: ids in ``[0, len(self))``.

        Returns:
            The text; added and special tokens as written in :attr:`markers`.

        Raises:
            ValueError: an id is outside the vocabulary, e.g. an image placeholder.
        """
        parts: list[str] = []
        pieces: list[int] = []
        for index in ids:
            index = int(index)
            if not 0 <= index < len(self):
                raise ValueError(f'expected ids in [0, {len(self)}), but got {index}')
            if index in self._marker_texts:
                parts += [self._sp.decode(pieces), self._marker_texts[index]]
                pieces = []
            else:
                pieces.append(index)
        return ''.join([*parts, self._sp.decode(pieces)])

    def _load_model(self) -> None:
        """Create the SentencePiece processor from the model's bytes."""
        self._sp = sentencepiece.SentencePieceProcessor()
        try:
            self._sp.load_from_serialized_proto(self._model_proto)
        except RuntimeError as error:
            raise ValueError(
                f'expected a SentencePiece model, but {self.model_file} is none: {error}'
            ) from error
        self._num_pieces = self._sp.vocab_size()
        self.pad_id, self.bos_id, self.eos_id = (
            self._sp.unk_id(), self._sp.bos_id(), self._sp.eos_id())
        specials = {'unk': self.pad_id, 'bos': self.bos_id, 'eos': self.eos_id}
        if min(specials.values()) < 0:
            raise ValueError(f'expected ids >= 0, but got {specials} in {self.model_file}')

    def _check_added_tokens(self, added_tokens: dict[str, int]) -> dict[str, int]:
        """Return the tokens that extend the model, by id; raise ValueError on bad ids."""
        added = {}
        for text, index in sorted(added_tokens.items(), key=lambda item: item[1]):
            if 0 <= index < self._num_pieces:
                piece = self._sp.id_to_piece(index)
                if piece != text:
                    raise ValueError(
                        f'added token {text!r} has id {index}, which is {piece!r} in '
                        f'{self.model_file}; expected ids from {self._num_pieces} on')
                continue
            added[text] = index
        missing = [token for token in REQUIRED_TOKENS if token not in added]
        if missing:
            raise ValueError(
                f'expected the added tokens {list(REQUIRED_TOKENS)}, but {missing} are missing; '
                f'got {added} for {self.model_file}')
        expected = list(range(self._num_pieces, self._num_pieces + len(added)))
        if list(added.values()) != expected:
            raise ValueError(
                f'expected the ids {expected[0]}..{expected[-1]} without gap or repeat for the '
                f'added tokens of {self.model_file}, but got {added}')
        return added

    def _special_ids(self) -> dict[str, int]:
        return {self._sp.id_to_piece(i): i for i in (self.pad_id, self.bos_id, self.eos_id)}

    def _build_tables(self) -> None:
        """Build the split pattern, the lookup tables and the cache of chunks."""
        self.seg_id, self.im_start_id, self.im_end_id = (
            self._added[token] for token in (self.answer_token, IM_START_TOKEN, IM_END_TOKEN))
        self._marker_ids = self._special_ids() | self._added
        self.markers = tuple(self._marker_ids)
        self._strips = {text: (text in self._added, ) * 2 for text in self._marker_ids}
        self._strips |= self._stripping
        self._marker_texts = {index: text for text, index in self._marker_ids.items()}
        longest_first = sorted(self._marker_ids, key=len, reverse=True)
        self._pattern = re.compile('(' + '|'.join(map(re.escape, longest_first)) + ')')
        sp = self._sp
        self._encode_chunk = functools.lru_cache(maxsize=self.cache_size)(
            lambda chunk: tuple(sp.encode(chunk)))


def tokenizer_folder(name_or_folder: str | Path) -> Path:
    """Find the folder of a tokenizer; arguments and errors as ``SegTokenizer.from_pretrained``.

    Returns:
        A folder that exists; what is in it is not looked at.

    Raises:
        FileNotFoundError: there is no such tokenizer.
        ValueError: ``'load_from'``, which the tools fill in before.
    """
    if str(name_or_folder) == FROM_WEIGHTS:
        raise ValueError(
            f'tokenizer={FROM_WEIGHTS!r} in a config stands for the tokenizer that comes with the '
            'weights. tools/train.py, tools/test.py and init_model fill it in from the checkpoint '
            'or from the load_from of the config; building a part of a config by hand needs a '
            'folder with tokenizer.model here')
    folder = SHIPPED_TOKENIZERS.get(str(name_or_folder), Path(name_or_folder))
    if folder.is_dir():
        return folder
    if is_hub_name(name_or_folder):
        return download(
            name_or_folder, TOKENIZER_FILES,
            'Without a network give a folder with tokenizer.model and added_tokens.json.')
    raise FileNotFoundError(
        f'expected one of the shipped tokenizers {sorted(SHIPPED_TOKENIZERS)}, a folder with '
        f'tokenizer.model, or a name org/name on the hub, but got {str(name_or_folder)!r}, which '
        'is no folder')


def read_added_tokens(folder: Path) -> tuple[Path, dict[str, int]]:
    """Read the added tokens of a checkpoint folder.

    Args:
        folder: folder with ``added_tokens.json`` or ``tokenizer_config.json``.

    Returns:
        The file that was read and text to id of each added token.

    Raises:
        ValueError: neither file lists added tokens, or an entry is malformed.
    """
    added_file = folder / 'added_tokens.json'
    config_file = folder / 'tokenizer_config.json'
    if added_file.is_file():
        source, tokens = added_file, read_json_object(added_file)
    elif config_file.is_file() and 'added_tokens_decoder' in (
        config := read_json_object(config_file)):
        source = config_file
        try:
            decoder = config['added_tokens_decoder'].items()
            tokens = {entry['content']: int(index) for index, entry in decoder}
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                'expected added_tokens_decoder to be {"<id>": {"content": "<text>"}} in '
                f'{config_file}, but got {config["added_tokens_decoder"]!r}') from error
    else:
        raise ValueError(
            f'expected {added_file} with [SEG], or added_tokens_decoder in {config_file}, '
            'but found neither')
    for text, index in tokens.items():
        if not text or type(index) is not int:
            raise ValueError(
                f'expected token text to integer id in {source}, but got {text!r}: {index!r}')
    return source, tokens


def read_stripping(folder: Path) -> dict[str, tuple[bool, bool]]:
    """Read which tokens have a white-space rule of their own.

    A slow tokenizer of transformers 4.31 strips white space on both sides of every token that it
    splits at, except those that are registered as special tokens in the form of an object: their
    ``lstrip`` and ``rstrip`` decide. ``special_tokens_map.json`` goes before
    ``tokenizer_config.json``. The latter may name ``<s>``, ``</s>`` and ``<unk>`` as plain text,
    which LlamaTokenizer made objects of that strip nothing; the former may not.

    Args:
        folder: folder of a tokenizer; both files may be missing.

    Returns:
        Text of a token to whether white space to its left and to
        its right is stripped; tokens without an entry follow the defaults of SegTokenizer.

    Raises:
        ValueError: a file is malformed.
    """
    stripping, plain = {}, []
    entries = {}
    for name in ('tokenizer_config.json', 'special_tokens_map.json'):
        content = _read_if_there(folder / name)
        for key in (*_SPECIAL, 'additional_special_tokens'):
            if content.get(key) is not None:
                entries[key] = (name, content[key])
    for key, (name, value) in entries.items():
        for token in value if key == 'additional_special_tokens' else [value]:
            if isinstance(token, str):
                if name == 'special_tokens_map.json' or key == 'additional_special_tokens':
                    plain.append(token)
            elif isinstance(token, dict) and isinstance(token.get('content'), str):
                sides = (bool(token.get('lstrip', False)), bool(token.get('rstrip', False)))
                stripping[token['content']] = sides
            else:
                raise ValueError(
                    f'expected the text of a token or an object with "content" as {key} in '
                    f'{folder / name}, but got {token!r}')
    return dict.fromkeys(plain, (True, True)) | stripping


def _read_if_there(path: Path) -> dict:
    return read_json_object(path) if path.is_file() else {}
