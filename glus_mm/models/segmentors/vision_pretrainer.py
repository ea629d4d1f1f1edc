"""The stage of training from scratch that a pretrained vision tower brings to an MLLM."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glus_mm.models.segmentors.base_pretrainer import BasePretrainer
from glus_mm.registry import MODELS, build_child
from glus_mm.structures import RefVOSDataSample


@MODELS.register_module()
class VisionPretrainer(BasePretrainer):
    """Teach vision tower and projector to say what is where, token by token, without the LLM.

    Of each projected visual token a linear map reads whether an object is there, and if so, its
    centre, its size and whether it is lit. Its look is read as CLIP does it, by comparing the token
    with embeddings of words; these are the LLM's own input embeddings, so that in the next stage
    words and visual tokens already mean the same. The MLLM is the one that GLUS uses, and its
    weights load into it by name.

    Args:
        mllm: config of a :class:`LlavaMLLM`.
        words: the words of each attribute of an object that :class:`LoadObjects` provides.
        coverage: least part of its cell that an object covers where a token shows it.
        scale: factor of the tokens before they are read; the larger it is, the smaller the tokens
            become beside the embeddings of words.
        tie_keys: start the keys of the LLM's attention as its queries. It then begins by looking at
            what is alike, which is how words find the tokens that they name.
        data_preprocessor: config of a :class:`RefVOSDataPreprocessor`.
        init_cfg: as in MMEngine.

    Raises:
        ValueError: a word is not a single token.
    """

    def __init__(self,
                 mllm: dict,
                 words: Mapping[str, Sequence[str]],
                 coverage: float = 0.15,
                 scale: float = 2.0,
                 tie_keys: bool = True,
                 data_preprocessor: dict | None = None,
                 init_cfg: dict | None = None) -> None:
        super().__init__(data_preprocessor, init_cfg)
        self.mllm = build_child(MODELS, mllm)
        self.words = {name: list(some) for name, some in words.items()}
        self.word_ids = {name: [self._token_id(word) for word in some]
                         for name, some in self.words.items()}
        self.coverage = coverage
        self.scale = scale
        # Object or not, lit or not, centre (x, y), size.
        self.reader = nn.Linear(self.mllm.llm.config.hidden_size, 5)
        if tie_keys:
            with torch.no_grad():
                for layer in self.mllm.llm.layers:
                    layer.self_attn.k_proj.weight.copy_(layer.self_attn.q_proj.weight)

    def _token_id(self, word: str) -> int:
        first, *rest = self.mllm.tokenizer.encode(f'the {word}')[1:]
        if rest:
            raise ValueError(f'model.words: expected words of one token of model.mllm.tokenizer, '
                             f'got {word!r}, which has {1 + len(rest)}')
        return first

    def loss(self, inputs: dict, data_samples: list[RefVOSDataSample]) -> dict[str, Tensor]:
        """Losses of a batch of B videos.

        Args:
            inputs: ``clip_imgs``, a list of B (F, 3, P, P).
            data_samples: (B) with what :class:`LoadObjects` adds.

        Returns:
            ``loss_object``, ``loss_lit``, ``loss_place``, ``loss_size`` and ``loss_<attribute>``,
            and for the log ``acc_<attribute>`` and ``place_error``, a part of the side.
        """
        tokens = self.mllm.encode_images(torch.cat(inputs['clip_imgs'])) * self.scale
        shown, lit, place, size, words = [], [], [], [], {name: [] for name in self.words}
        for sample in data_samples:
            cells = sample.object_cells.flatten(2)  # (O, F, V)
            most, which = cells.max(0)
            shown.append(most > self.coverage)
            frames = torch.arange(cells.shape[1], device=cells.device)[:, None]
            lit.append(sample.object_lit[which, frames])
            place.append(sample.object_centres[which, frames])
            size.append(sample.object_sizes[which, frames])
            for name, known in self.words.items():
                number = torch.tensor([known.index(looks[name]) for looks in sample.object_words],
                                      device=cells.device)
                words[name].append(number[which])
        shown = torch.cat(shown)
        read = self.reader(tokens)
        there, tokens = read[shown], tokens[shown]
        place, size = torch.cat(place)[shown], torch.cat(size)[shown]
        losses = dict(
            loss_object=F.binary_cross_entropy_with_logits(read[..., 0], shown.float()),
            loss_lit=F.binary_cross_entropy_with_logits(
                there[:, 1], torch.cat(lit)[shown].float()),
            loss_place=8 * F.smooth_l1_loss(there[:, 2:4], place, beta=0.05),
            loss_size=4 * F.smooth_l1_loss(there[:, 4], size, beta=0.05),
            place_error=(there[:, 2:4] - place).detach().abs().mean())
        embeddings = self.mllm.llm.get_input_embeddings().weight
        for name, numbers in words.items():
            target = torch.cat(numbers)[shown]
            logits = tokens @ embeddings[self.word_ids[name]].T
            losses[f'loss_{name}'] = F.cross_entropy(logits, target)
            losses[f'acc_{name}'] = (logits.argmax(1) == target).float().mean()
        return losses
