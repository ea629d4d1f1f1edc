"""Key-frame selectors to start from, made of a GLUS, LLaVA, Vicuna or Chat-UniVi checkpoint."""

import json
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine import Config
from mmengine.logging import print_log
from sentencepiece import SentencePieceProcessor
from torch import Tensor, nn

from glus_mm.conversion.config_file import (
    HERE,
    check_space,
    config_text,
    origin_text,
    output_folder,
)
from glus_mm.conversion.convert import open_source
from glus_mm.conversion.export import write_json
from glus_mm.conversion.official_config import OfficialConfig
from glus_mm.conversion.official_weights import check_converted, run_dtype, with_tower_names_of
from glus_mm.conversion.plain_weights import empty_model
from glus_mm.models.selectors import KeyFrameSelector
from glus_mm.text.tokenizer import (
    REQUIRED_TOKENS,
    SCORE_TOKEN,
    TOKENIZER_FILES,
    SegTokenizer,
    read_added_tokens,
)
from glus_mm.utils.checkpoint import list_keys
from glus_mm.utils.deprecation import ignored
from glus_mm.utils.json_file import read_json_object
from glus_mm.utils.weight_files import own_storages

_CONFIG = 'tokenizer_config.json'
# Tables with a row for each token of the vocabulary.
TABLES = ('mllm.llm.embed_tokens.weight', 'mllm.lm_head.weight')
# The MLP on [SCORE] is new.
FRESH = ('mllm.seg_projector.', 'score.')
CHAT_UNIVI = 'a checkpoint of Chat-UniVi in the layout of Hugging Face'
MODEL_TYPES = ('ChatUniVi', 'llava')
OUTPUTS = ('config.py', 'model.pth', *TOKENIZER_FILES)
_LEVELS = tuple(f'spatial_cluster_rate{level}' for level in range(3))


def convert_chat_univi(hf_dir: str | Path,
                       out_dir: str | Path,
                       clip: str | None = None,
                       kind: str | None = None,
                       seed: int = 0,
                       force: bool = False) -> None:
    """Make a :class:`KeyFrameSelector` to be trained of a checkpoint of Chat-UniVi.

    Its names are those of LLaVA v1, as the clustering has no weights. The vocabulary gets
    ``[SCORE]`` (and ``[SEG]``, ``<im_start>`` and ``<im_end>``, which are not used), whose rows are
    the mean of the others, as LLaVA does it; the MLP on ``[SCORE]`` is new, float32, with the
    initial values of ``torch.nn.Linear``. All other weights keep their values and types.

    Args:
        hf_dir: folder in the official layout.
        out_dir: gets ``model.pth``, ``config.py`` and the tokenizer; a new or empty folder.
            ``config.py`` is written last.
        clip: folder or hub name of the vision tower; by default what config.json names.
        kind: not needed any more; ``projects/video_qa`` of the repository asks the same folder.
        seed: of the new MLP.
        force: replace the files of an earlier conversion; others in ``out_dir`` stay.

    Raises:
        ConnectionError: the vision tower is on the hub, which cannot be reached.
        OSError: a file is missing, or cannot be written.
        ValueError: the checkpoint cannot be used; the message names file or key and what was
            expected. Nothing was written then.
    """
    ignored('kind', kind, '0.2')
    out_dir = Path(out_dir).expanduser()
    source = open_source(hf_dir, out_dir, clip, force, CHAT_UNIVI, MODEL_TYPES)
    official, clusters = source.official, read_clusters(source.official)
    with output_folder(out_dir, OUTPUTS, 'config.py') as staging:
        write_selector_tokenizer(source.folder, staging, official)
        tokenizer = SegTokenizer.from_pretrained(staging, answer_token=SCORE_TOKEN)
        llm = dict(official.llm)
        if llm['vocab_size'] <= len(tokenizer):
            del llm['vocab_size']  # follows the tokenizer
        mllm = dict(
            type='ChatUniViMLLM', tokenizer=HERE, template='selector', vision_crop='center',
            vision_select_layer=official.vision_select_layer, **clusters,
            vision_tower=source.tower.sizes, llm=llm, trainable=[])
        model = dict(type='KeyFrameSelector', dtype=run_dtype(source.state), mllm=mllm)
        origin = origin_text(
            'chatunivi2mm', source.folder, official.architecture, source.tower.name, None,
            [f'[SCORE] is new; so is the MLP on it (seed {seed}).'])
        config = staging / 'config.py'
        config.write_text(config_text(model, origin, tokenizer), encoding='utf-8')
        result = _selector_weights(config, source.state, official, seed)
        check_space(staging, out_dir, sum(value.nbytes for value in result.values()))
        torch.save(dict(state_dict=own_storages(result)), staging / 'model.pth')
    print_log(f'{source.folder}: {len(source.state)} weights converted', 'current')


def read_clusters(official: OfficialConfig) -> dict[str, Any]:
    """The settings of the clustering, as ``ChatUniViMLLM`` names them.

    Returns:
        ``spatial_clusters`` and ``temporal_cluster_rate``.

    Raises:
        ValueError: they are missing, or others than Chat-UniVi's kind: counts for the tokens of a
            frame, a ratio for the events of a video.
    """
    values = official.values.get('config')
    if not isinstance(values, dict) or 'use_cluster' not in values:
        raise ValueError(f'{official.file}: expected "config": {{"use_cluster": true, ...}}, as '
                         f'{CHAT_UNIVI} has it, got {values!r}')
    if values['use_cluster'] is not True:
        raise ValueError(f'{official.file}: expected use_cluster true in "config", got '
                         f'{values["use_cluster"]!r}; a model without clustering is a LLaVA')
    counts = tuple(values.get(key) for key in _LEVELS)
    if not all(type(count) is int and count > 1 for count in counts):
        raise ValueError(f'{official.file}: expected counts of tokens above 1 as '
                         f'{", ".join(_LEVELS)} in "config", got {counts}')
    rate = values.get('temporal_cluster_rate')
    if type(rate) not in (int, float) or not 0 < rate <= 1:
        raise ValueError(f'{official.file}: expected a ratio in (0, 1] as temporal_cluster_rate in '
                         f'"config", got {rate!r}')
    return dict(spatial_clusters=counts, temporal_cluster_rate=rate)


def _selector_weights(config: Path, state: Mapping[str, Tensor], official: OfficialConfig,
                      seed: int) -> dict[str, Tensor]:
    """The state of the model that a config describes, all of it checked."""
    where = f'the sizes in {official.file} or in that of the vision tower'
    model = empty_model(Config.fromfile(config), where)
    expected = model.state_dict()
    state = with_tower_names_of(expected, state)
    old = {name: value.new_empty((official.llm['vocab_size'], *value.shape[1:]))
           if name in TABLES else value
           for name, value in expected.items() if not name.startswith(FRESH)}
    check_converted(old, state, str(official.file.parent), None)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for name, module in model.named_modules():
            if isinstance(module, nn.Linear) and f'{name}.'.startswith(FRESH):
                module.to_empty(device='cpu').float().reset_parameters()
    return selector_state(state, model, str(official.file.parent))


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
    config, added = folder / _CONFIG, {}
    settings = read_json_object(config) if config.is_file() else {}
    if (folder / 'added_tokens.json').is_file() or 'added_tokens_decoder' in settings:
        added = {text: index for text, index in read_added_tokens(folder)[1].items()
                 if index >= pieces}
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
    if settings.get('legacy') is False:  # as in Vicuna 1.5
        # The two differ in the text that follows an added token within a chunk. Prompts have
        # none there; of the answers it is the full stop behind [SCORE].
        del settings['legacy']
        print_log(f'{config}: legacy false is not kept; the text right behind an added token gets '
                  'the ids of the older tokenizer', 'current', logging.WARNING)
    if config.is_file():
        (target / _CONFIG).write_text(json.dumps(settings, indent=2), encoding='utf-8')


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
            index, missing = model.mllm.tokenizer.seg_id, len(own) - len(value)
            if missing >= 0:
                mean = value[:index].float().mean(0).to(value.dtype)
                value = torch.cat([value, mean.expand(missing, -1)])
                value[index] = mean
        if value is None or value.shape != own.shape:
            got = 'nothing' if value is None else tuple(value.shape)
            wrong.append(f'{name}: expected {tuple(own.shape)}, got {got}')
        result[name] = value
    if wrong:
        raise ValueError(list_keys(f'{source} does not fit the MLLM of the selector', wrong))
    return result
