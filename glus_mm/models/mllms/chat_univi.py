"""Chat-UniVi: LLaVA v1 whose visual tokens are merged by clustering."""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import DynamicCache

from glus_mm.models.mllms.base_video_qa import AnswerCfg, BaseVideoQA
from glus_mm.models.mllms.llava import LlavaMLLM
from glus_mm.models.mllms.token_clustering import SPATIAL_NEIGHBOURS, merge_frames, merge_video
from glus_mm.registry import MODELS
from glus_mm.text.prompt import IMAGE_TOKEN_INDEX, get_template
from glus_mm.utils.precision import at_least_float32, run_in_own_type

# No image marks stand around the video.
_BEFORE_VIDEO = f"{get_template('video_qa').system} USER: "
_AFTER_VIDEO = '\n{question} ASSISTANT:'
# Frames that go through the vision tower at once.
_CHUNK = 16


@MODELS.register_module()
class ChatUniViMLLM(LlavaMLLM, BaseVideoQA):
    """Chat-UniVi (CVPR 2024): the network of LLaVA v1, and clustering between tower and projector.

    The clustering has no weights, so that a checkpoint has the names of LLaVA v1. A frame becomes
    64 + 32 + 16 = 112 tokens, each level made of the one before. :meth:`encode_video` is
    Chat-UniVi's way for whole videos, which off-the-shelf question answering uses.

    Chat-UniVi itself clusters in bfloat16 and breaks ties of density with the global random
    generator; here distances are float32 and the generator has a seed.

    Args:
        vision_tower, llm, seg_dim: as for :class:`LlavaMLLM`, likewise those not listed here.
        tokenizer, template: likewise.
        spatial_clusters: tokens of the three levels.
        temporal_cluster_rate: events per frame of a video.
        cluster_seed: of the numbers that break ties of density.
        vision_select_layer, vision_crop, lora, trainable: as for :class:`LlavaMLLM`.
        gradient_checkpointing: likewise.
        init_cfg: as in MMEngine.
    """

    def __init__(self,
                 vision_tower: dict,
                 llm: dict,
                 seg_dim: int,
                 tokenizer: str = 'tiny',
                 template: str = 'llava_v1',
                 spatial_clusters: Sequence[int] = (64, 32, 16),
                 temporal_cluster_rate: float = 1 / 16,
                 cluster_seed: int = 0,
                 vision_select_layer: int = -2,
                 vision_crop: str = 'center',
                 lora: dict | None = None,
                 trainable: Sequence[str] | None = None,
                 gradient_checkpointing: bool = False,
                 init_cfg: dict | None = None) -> None:
        super().__init__(
            vision_tower, llm, seg_dim, tokenizer=tokenizer, template=template, pooling='none',
            vision_select_layer=vision_select_layer, vision_crop=vision_crop, lora=lora,
            trainable=trainable, gradient_checkpointing=gradient_checkpointing, init_cfg=init_cfg)
        self.spatial_clusters = self._check_clusters(spatial_clusters)
        self.tokens_per_image = sum(self.spatial_clusters)
        if not 0 < temporal_cluster_rate <= 1:
            raise ValueError('model.mllm.temporal_cluster_rate must be in (0, 1], '
                             f'got {temporal_cluster_rate!r}')
        self.temporal_cluster_rate = temporal_cluster_rate
        self.cluster_seed = cluster_seed

    def encode_video(self, imgs: Tensor) -> Tensor:
        """Visual tokens of a video: its frames are clustered into events, see :func:`merge_video`.

        Args:
            imgs: (T, 3, P, P), normalised.

        Returns:
            (events * V, D) with ceil(T * temporal_cluster_rate) events; (T * V, D) for one or
            two frames.

        Raises:
            ValueError: there is no frame, or the frames have another size.
        """
        if not len(imgs):
            raise ValueError('expected a video with at least one frame, got none')
        tokens = torch.cat([self._patch_tokens(part) for part in imgs.split(_CHUNK)])
        return run_in_own_type(self.projector, merge_video(
            tokens, self.spatial_clusters, self.temporal_cluster_rate, self.cluster_seed))

    @torch.no_grad()
    def answer_questions(self, imgs: Tensor, questions: Sequence[str], cfg: AnswerCfg,
                         generators: Sequence[torch.Generator]) -> list[list[str]]:
        """See :meth:`BaseVideoQA.answer_questions`; the video is encoded once."""
        video = self.encode_video(imgs)[None]
        answers = []
        for question, generator in zip(questions, generators, strict=True):
            prompt = self.question_prompt(question)
            ids = [self.generate(prompt, video, cfg.max_new_tokens, cfg.temperature, generator)
                   for _ in range(cfg.num_answers)]
            answers.append([self.tokenizer.decode(answer).strip() for answer in ids])
        return answers

    def answer_logits(self, imgs: Tensor, input_ids: Sequence[Tensor],
                      labels: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """See :meth:`BaseVideoQA.answer_logits`; the video is encoded once."""
        video = self.encode_video(imgs)[None]
        _, logits, targets = self(input_ids, labels, [video] * len(input_ids), 'answer',
                                  groups=[0] * len(input_ids))
        return logits, targets

    def question_prompt(self, question: str) -> list[int]:
        """Ids of a question on a video, which stands at the one ``IMAGE_TOKEN_INDEX``."""
        return [*self.tokenizer.encode(_BEFORE_VIDEO, add_bos=True), IMAGE_TOKEN_INDEX,
                *self.tokenizer.encode(_AFTER_VIDEO.replace('{question}', question))]

    @torch.no_grad()
    def generate(self, prompt_ids: Sequence[int], visual_tokens: Tensor, max_new_tokens: int,
                 temperature: float = 0.0, generator: torch.Generator | None = None) -> list[int]:
        """Continue one prompt in words until ``</s>``.

        Args:
            prompt_ids: its ids, with one ``IMAGE_TOKEN_INDEX`` for each image or video.
            visual_tokens: (images, V, D); a video is an image of its own V.
            max_new_tokens: bound of the answer.
            temperature: 0 takes the most likely token, else tokens are drawn.
            generator: for drawing, on the CPU.

        Returns:
            The ids of the answer, without ``</s>``. Added tokens such as ``[SCORE]``, which are no
            words, and rows beyond the tokenizer are left out of account.
        """
        cache, answer = DynamicCache(), []
        hidden = self._run([torch.tensor(prompt_ids)], [visual_tokens], cache)
        no_words = list(self.tokenizer.added_tokens.values())
        for _ in range(max_new_tokens):
            logits = at_least_float32(run_in_own_type(self.lm_head, hidden[0, -1])).cpu()
            logits[no_words] = -torch.inf
            token = _choose(logits[:len(self.tokenizer)], temperature, generator)
            if token == self.tokenizer.eos_id:
                break
            answer.append(token)
            hidden = self._run([torch.tensor([token])], [visual_tokens[:0]], cache)
        return answer

    def _pool(self, tokens: Tensor) -> Tensor:
        """Tokens (M, V, width) of frames (M, patches, width): the three levels one after another.
        """
        return torch.cat(merge_frames(tokens, self.spatial_clusters, self.cluster_seed), 1)

    def _check_clusters(self, counts: Sequence[int]) -> tuple[int, ...]:
        """Refuse counts that the patches do not allow; ratios are not taken."""
        side = self.image_size // self.vision_tower.config.patch_size
        counts = tuple(counts)
        limits = (side**2, *counts)
        levels = len(SPATIAL_NEIGHBOURS)
        if len(counts) != levels or not all(
                type(n) is int and 1 <= n <= limit for n, limit in zip(counts, limits)):
            raise ValueError(
                f'model.mllm.spatial_clusters must be {levels} integers, none larger than the one '
                f'before and than the {side**2} patches of a frame, got {counts}')
        return counts


def _choose(logits: Tensor, temperature: float, generator: torch.Generator | None) -> int:
    """The next token of logits (vocabulary)."""
    if temperature == 0:
        return int(logits.argmax())
    return int(torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator))
