"""A key-frame selector to start from, made of a GLUS, LLaVA or Vicuna checkpoint."""

import json
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from mmengine.logging import print_log
from sentencepiece import SentencePieceProcessor
from torch import Tensor

from glus_mm.conversion.export import write_json
from glus_mm.conversion.official_config import OfficialConfig
from glus_mm.models.selectors import KeyFrameSelector
from glus_mm.text.tokenizer import REQUIRED_TOKENS, SCORE_TOKEN
from glus_mm.text.tokenizer_files import read_added_tokens
from glus_mm.utils.checkpoint import list_keys
from glus_mm.utils.json_file import read_json_object

_CONFIG = 'tokenizer_config.json'
# Tables with a row for each token of the vocabulary.
TABLES = ('mllm.llm.embed_tokens.weight', 'mllm.lm_head.weight')
# The MLP on [SCORE] is new.
FRESH = ('mllm.seg_projector.', 'score.')


def write_selector_tokenizer(folder: Path, target: Path, official: OfficialConfig) -> None:
    """Copy a tokenizer, and add the tokens that it lacks behind those that it has.

    Args:
        folder: of the checkpoint; ``tokenizer.model``, and possibly the other files of the slow
            Llama tokenizer.
        target: where the files go.
        official: config.json of the checkpoint, which says how many tokens have a row.

    Raises:
        FileNotFoundError: there is no ``tokenizer.model``.
        ValueError: a file is malformed, or tokens have no row in the vocabulary.
    """
    model_file = folder / 'tokenizer.model'
    if not model_file.is_file():
        raise FileNotFoundError(f'expected the SentencePiece model {model_file}, but it does not '
                                'exist (a tokenizer.json of the fast tokenizer is not read)')
    try:
        pieces = SentencePieceProcessor(model_file=str(model_file)).vocab_size()
    except RuntimeError as error:
        raise ValueError(f'expected a SentencePiece model, but {model_file} is none: '
                         f'{error}') from error
    added = {text: index for text, index in _added_tokens(folder).items() if index >= pieces}
    rows = official.llm['vocab_size']
    if pieces + len(added) > rows:
        raise ValueError(f'{official.file}: expected a vocab_size of at least '
                         f'{pieces + len(added)}, which is how many tokens the tokenizer in '
                         f'{folder} has, got {rows}')
    for token in (*REQUIRED_TOKENS, SCORE_TOKEN):
        added.setdefault(token, pieces + len(added))
    shutil.copyfile(model_file, target / model_file.name)
    write_json(target / 'added_tokens.json', added)
    if (folder / 'special_tokens_map.json').is_file():
        shutil.copyfile(folder / 'special_tokens_map.json', target / 'special_tokens_map.json')
    if (folder / _CONFIG).is_file():
        (target / _CONFIG).write_text(json.dumps(_settings(folder), indent=2), encoding='utf-8')


def _added_tokens(folder: Path) -> dict[str, int]:
    """Added tokens of a tokenizer, which may have none."""
    config = folder / _CONFIG
    if (folder / 'added_tokens.json').is_file() or (
            config.is_file() and 'added_tokens_decoder' in read_json_object(config)):
        return read_added_tokens(folder)[1]
    return {}


def _settings(folder: Path) -> dict:
    """Settings of a tokenizer without ``legacy`` false, which Vicuna 1.5 has."""
    values = read_json_object(folder / _CONFIG)
    if values.get('legacy') is False:
        # The two differ in the text that follows an added token within a chunk. Prompts have
        # none there; of the answers it is the full stop behind [SCORE].
        del values['legacy']
        print_log(f'{folder / _CONFIG}: legacy false is not kept; the text right behind an added '
                  'token gets the ids of the older tokenizer', 'current', logging.WARNING)
    return values


def selector_state(state: Mapping[str, Tensor], model: KeyFrameSelector,
                   source: str) -> dict[str, Tensor]:
    """Weights of a selector: the MLLM of a checkpoint, a row for ``[SCORE]``, a new MLP.

    The row is the mean of the others, as LLaVA does it with new tokens.

    Args:
        state: plain weights (no adapters) with the names of GLUS; those of other parts than the
            MLLM are left out.
        model: a selector with random weights and without adapters, whose MLP is taken.
        source: where the weights came from, for the error.

    Returns:
        The state dict of the model, its MLLM in the types of ``state``.

    Raises:
        ValueError: weights of the MLLM are missing or have another shape; lists them.
    """
    result, wrong = {}, []
    for name, own in model.state_dict().items():
        value = state.get(name)
        if name.startswith(FRESH):
            value = own
        elif name in TABLES and value is not None:
            value = _with_row(value, len(own), model.mllm.tokenizer.seg_id)
        if value is None or value.shape != own.shape:
            got = 'nothing' if value is None else tuple(value.shape)
            wrong.append(f'{name}: expected {tuple(own.shape)}, got {got}')
        result[name] = value
    if wrong:
        raise ValueError(list_keys(f'{source} does not fit the MLLM of the selector', wrong))
    return result


def _with_row(table: Tensor, size: int, index: int) -> Tensor:
    """A table (rows, D) with ``size`` rows, of which ``index`` and later ones are the mean."""
    mean = table[:index].float().mean(0).to(table.dtype)
    if len(table) > size:
        return table
    table = torch.cat([table, mean.expand(size - len(table), -1)])
    table[index] = mean
    return table
