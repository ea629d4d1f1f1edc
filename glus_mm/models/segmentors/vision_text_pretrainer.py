"""Stage 0 of training from scratch, language side: what CLIP and LLaVA's alignment bring."""

import math

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn
from torch.nn import functional as F

from glus_mm.models.mllms.prompt import clean_expression
from glus_mm.registry import MODELS, build_child
from glus_mm.structures import RefVOSDataSample


@MODELS.register_module()
class VisionTextPretrainer(BaseModel):
    """Align an MLLM's visual tokens with the word embeddings of what they show.

    Each visual token, as the LLM gets it, is compared with the mean embedding of an expression's
    words; the cosine has to tell whether the expression's object covers the token's part of the
    frame. Without this, a small LLM from random weights long stays where it segments every object,
    because content, words and the attention between them must emerge together.

    The parts are those that GLUS uses, so that their weights load into it by name; the LLM's
    layers are not touched.

    Args:
        mllm: config of a :class:`LlavaMLLM` whose visual tokens form a grid.
        data_preprocessor: config of a :class:`RefVOSDataPreprocessor`.
        init_cfg: as in MMEngine.
    """

    def __init__(self, mllm: dict, data_preprocessor: dict | None = None,
                 init_cfg: dict | None = None) -> None:
        preprocessor = build_child(MODELS, data_preprocessor or dict(type='RefVOSDataPreprocessor'))
        super().__init__(preprocessor, init_cfg)
        self.mllm = build_child(MODELS, mllm)
        self.scale = nn.Parameter(torch.tensor(5.0))
        self.bias = nn.Parameter(torch.tensor(-2.0))

    def forward(self, inputs: dict, data_samples: list[RefVOSDataSample],
                mode: str = 'loss') -> dict[str, Tensor]:
        """Only ``'loss'``: the model that is tested is GLUS."""
        if mode != 'loss':
            raise ValueError(f'VisionTextPretrainer only trains, got mode {mode!r}')
        return self.loss(inputs, data_samples)

    def loss(self, inputs: dict, data_samples: list[RefVOSDataSample]) -> dict[str, Tensor]:
        """Loss of a batch of B videos.

        Args:
            inputs: ``clip_imgs``, a list of B (Tq, 3, P, P); no context frames.
            data_samples: (B) with ``gt_masks`` (E, Tq, H, W) and ``expressions``.

        Returns:
            ``loss_align``, binary cross-entropy over tokens, and ``hit``, the share of masks whose
            best token lies on the object, for the log.
        """
        visual = self.mllm.encode_images(torch.cat(inputs['clip_imgs']))
        visual = F.normalize(visual, dim=-1).split([len(i) for i in inputs['clip_imgs']])
        logits, targets = [], []
        for tokens, sample in zip(visual, data_samples):
            side = math.isqrt(tokens.shape[1])
            words = torch.stack([self._embed(text) for text in sample.expressions])
            cosine = torch.einsum('qvd,ed->eqv', tokens, F.normalize(words, dim=-1))
            logits.append((cosine * self.scale.clamp(max=30) + self.bias).flatten(0, 1))
            targets.append(F.adaptive_avg_pool2d(sample.gt_masks.float(), side).flatten(2)
                           .flatten(0, 1))
        logits, target = torch.cat(logits), torch.cat(targets)
        seen = target.amax(1) > 0.3
        best = target.gather(1, logits.argmax(1, keepdim=True))[:, 0]
        return dict(
            loss_align=F.binary_cross_entropy_with_logits(logits, target),
            hit=(best[seen] > 0.3).float().mean())

    def _embed(self, expression: str) -> Tensor:
        """Mean embedding (D) of an expression's tokens."""
        ids = self.mllm.tokenizer.encode(clean_expression(expression))
        ids = torch.tensor(ids, device=self.scale.device)
        return self.mllm.llm.get_input_embeddings()(ids).mean(0)
