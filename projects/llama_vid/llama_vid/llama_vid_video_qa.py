"""LLaMA-VID from the parts of transformers: two tokens per frame, one of them led by the text."""

from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.model import BaseModule
from sentencepiece import SentencePieceProcessor
from torch import Tensor, nn
from transformers import (
    BertTokenizer,
    InstructBlipQFormerConfig,
    InstructBlipQFormerModel,
    InstructBlipVisionConfig,
    InstructBlipVisionModel,
    LlamaConfig,
    LlamaForCausalLM,
)
from video_qa import AnswerCfg, BaseVideoQA

from glus_mm.registry import MODELS

# The conversation 'vicuna_v1' of LLaMA-VID; no image marks stand around the video.
_BEFORE_VIDEO = ('A chat between a curious user and an artificial intelligence assistant. The '
                 "assistant gives helpful, detailed, and polite answers to the user's questions. "
                 'USER: ')
_AFTER_VIDEO = '\n{question} ASSISTANT:'
_MAX_QUESTION = 256  # tokens of BERT; of longer questions the end is kept
_CHUNK = 16  # frames that go through the vision tower at once


@MODELS.register_module()
class LlamaVidVideoQA(BaseModule, BaseVideoQA):
    """LLaMA-VID (ECCV 2024), for questions on a video.

    Its vision tower EVA ViT-g and its Q-former are those of InstructBLIP. The queries read a frame
    under the question; each attends to the patches, and the mean of what they find is the context
    token. The mean of the patches is the content token. The variants with ``compress_type`` mean
    and a pretrained Q-former are meant, which those for videos are.

    It was written after the published code and has not been compared with published weights.

    Args:
        vision: sizes, as ``InstructBlipVisionConfig`` names them; the defaults are ViT-g's.
        qformer: sizes, as ``InstructBlipQFormerConfig`` names them; its
            ``encoder_hidden_size`` follows the tower.
        llm: sizes, as ``LlamaConfig`` names them.
        tokenizer: folder with the LLM's ``tokenizer.model``.
        text_tokenizer: folder with the ``vocab.txt`` of ``bert-base-uncased``.
        num_query: queries of the Q-former.
        vision_crop: see :class:`BaseVideoQA`.
        init_cfg: as in MMEngine.
    """

    def __init__(self,
                 vision: dict,
                 qformer: dict,
                 llm: dict,
                 tokenizer: str,
                 text_tokenizer: str,
                 num_query: int = 32,
                 vision_crop: str = 'center',
                 init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        self.tokenizer = SentencePieceProcessor(
            model_file=str(_file(tokenizer, 'tokenizer.model', 'the checkpoint of LLaMA-VID')))
        vocabulary = _file(text_tokenizer, 'vocab.txt', 'bert-base-uncased')
        words = vocabulary.read_text(encoding='utf-8').splitlines()
        self.text_tokenizer = BertTokenizer(
            {word: i for i, word in enumerate(words)}, truncation_side='left')
        self.vision_crop = vision_crop
        self.vision = InstructBlipVisionModel(InstructBlipVisionConfig(**vision))
        # Only the Q-former sees normalised features, by a norm of its own.
        self.vision.post_layernorm = nn.Identity()
        width = self.vision.config.hidden_size
        self.qformer = InstructBlipQFormerModel(
            InstructBlipQFormerConfig(**dict(qformer, encoder_hidden_size=width)))
        inner = self.qformer.config.hidden_size
        self.query_tokens = nn.Parameter(torch.randn(1, num_query, inner) * 0.02)
        self.qformer_norm = nn.LayerNorm(width)
        self.llm = LlamaForCausalLM(LlamaConfig(**llm))
        dim = self.llm.config.hidden_size
        self.context_query = nn.Linear(inner, width)
        self.context_key = nn.Linear(width, width)
        self.context_value = nn.Linear(width, dim)
        self.projector = nn.Sequential(nn.Linear(width, dim), nn.GELU(), nn.Linear(dim, dim))

    @property
    def image_size(self) -> int:
        """Side P of the vision tower's input."""
        return self.vision.config.image_size

    @property
    def precision_parts(self) -> list[nn.Module]:
        """Modules of one floating type each: all in one."""
        return [self]

    @torch.no_grad()
    def answer_questions(self, imgs: Tensor, questions: Sequence[str], cfg: AnswerCfg,
                         generators: Sequence[torch.Generator]) -> list[list[str]]:
        """See :meth:`BaseVideoQA.answer_questions`."""
        features = self.encode_frames(imgs)
        answers = []
        for question, generator in zip(questions, generators, strict=True):
            embeds = self._embed(question, self.video_tokens(features, question))
            # transformers draws from the global generators.
            with torch.random.fork_rng():
                torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
                answers.append([self._generate(embeds, cfg) for _ in range(cfg.num_answers)])
        return answers

    def encode_frames(self, imgs: Tensor) -> Tensor:
        """Features (T, 1 + patches, width) of frames (T, 3, P, P), before any norm."""
        dtype = self.query_tokens.dtype
        return torch.cat([self.vision(part.to(dtype)).last_hidden_state
                          for part in imgs.split(_CHUNK)])

    def video_tokens(self, features: Tensor, question: str) -> Tensor:
        """Tokens of a video under a question.

        Args:
            features: (T, 1 + patches, width), of :meth:`encode_frames`.
            question: the text.

        Returns:
            (2 * T, D), a context and a content token for each frame.
        """
        text = self.text_tokenizer(question, truncation=True, max_length=_MAX_QUESTION,
                                   return_tensors='pt').input_ids.to(features.device)
        num_frames, num_query = len(features), self.query_tokens.shape[1]
        found = self.qformer(
            text.expand(num_frames, -1),
            query_embeds=self.query_tokens.expand(num_frames, -1, -1),
            encoder_hidden_states=self.qformer_norm(features)).last_hidden_state[:, :num_query]
        patches = features[:, 1:]
        weights = self.context_query(found) @ self.context_key(patches).transpose(1, 2)
        weights = (weights / patches.shape[-1]**0.5).softmax(-1)
        context = self.context_value((weights @ patches).mean(1))
        content = self.projector(patches.mean(1))
        return torch.stack([context, content], 1).flatten(0, 1)

    def _embed(self, question: str, video: Tensor) -> Tensor:
        """Input (1, L, D) of the LLM."""
        texts = (_BEFORE_VIDEO, _AFTER_VIDEO.replace('{question}', question))
        before, after = (torch.tensor(self.tokenizer.encode(text)) for text in texts)
        before = torch.cat([torch.tensor([self.tokenizer.bos_id()]), before])
        embed = self.llm.get_input_embeddings()
        before, after = (embed(ids.to(video.device)) for ids in (before, after))
        return torch.cat([before, video, after])[None]

    def _generate(self, embeds: Tensor, cfg: AnswerCfg) -> str:
        drawn = dict(do_sample=False) if cfg.temperature == 0 else dict(
            do_sample=True, temperature=cfg.temperature, top_k=0)
        ids = self.llm.generate(
            inputs_embeds=embeds, attention_mask=embeds.new_ones(embeds.shape[:2]).long(),
            max_new_tokens=cfg.max_new_tokens, eos_token_id=self.tokenizer.eos_id(),
            pad_token_id=self.tokenizer.unk_id(), **drawn)[0].tolist()
        # Rows beyond the tokenizer have no text.
        words = [i for i in ids if i < self.tokenizer.vocab_size()]
        return self.tokenizer.decode(words).strip()


def _file(folder: str, name: str, source: str) -> Path:
    path = Path(folder) / name
    if not path.is_file():
        raise FileNotFoundError(f'expected {name} of {source} in the folder {folder!r}, got no '
                                'such file; projects/llama_vid/README.md says how to get it')
    return path
