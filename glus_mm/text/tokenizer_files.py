"""Read the files of the slow Llama tokenizer as transformers 4.31 did."""

from pathlib import Path

from glus_mm.utils.json_file import read_json_object

_SPECIAL = ('bos_token', 'eos_token', 'unk_token', 'sep_token', 'pad_token', 'cls_token',
            'mask_token')
_SETTINGS = {'legacy': True, 'add_bos_token': True, 'add_eos_token': False}


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


def check_settings(folder: Path) -> None:
    """Refuse settings that would give other ids than SegTokenizer does.

    Args:
        folder: folder of a tokenizer; ``tokenizer_config.json`` may be missing.

    Raises:
        ValueError: ``legacy``, ``add_bos_token`` or ``add_eos_token`` is not as in LLaVA v1.
    """
    config = _read_if_there(folder / 'tokenizer_config.json')
    for key, expected in _SETTINGS.items():
        value = config.get(key)
        if value is not None and value != expected:
            raise ValueError(
                f'expected {key} {expected} in {folder / "tokenizer_config.json"}, as LLaVA v1, '
                f'LISA and GLUS have it, but got {value!r}')


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
