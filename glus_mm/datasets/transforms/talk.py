"""Conversations: about the objects of a video, and talk without masks."""

from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform

from glus_mm.datasets.transforms.frame_sampling import one_per_clip
from glus_mm.registry import TRANSFORMS
from glus_mm.text.prompt import (
    IMAGE_TOKEN,
    build_conversation,
    build_talk,
    get_template,
    load_tokenizer,
)
from glus_mm.utils.checked import checked


@TRANSFORMS.register_module()
class BuildConversation(BaseTransform):
    """Build one conversation per expression, with one turn per query frame by default.

    Question and answer of each turn are drawn from the template's. For the meaning of the ids and
    labels see :func:`glus_mm.text.prompt.build_conversation`.

    Required keys: ``expressions``, ``context_frame_ids``, ``query_frame_ids``, ``rng``.
    Added keys: ``input_ids``, a list (E) of int64 arrays (L,) with -200 at each image, and
    ``labels``, likewise, with -100 where nothing is supervised. L differs between expressions.

    Args:
        tokenizer: name or folder, as for ``SegTokenizer.from_pretrained``; the MLLM's.
        template: name of the prompt template.
        one_token_seg_all: a single turn, about the first query frame, whose ``[SEG]`` stands for
            all of them; the same as ``model.train_cfg.one_token_seg_all``.

    Raises:
        ValueError: there is no such tokenizer or template, or an expression is empty.
    """

    def __init__(self, tokenizer: str, template: str, one_token_seg_all: bool = False) -> None:
        checked(bool, one_token_seg_all=one_token_seg_all)
        self.one_token_seg_all = one_token_seg_all
        self.template = get_template(template)
        self.tokenizer = load_tokenizer(tokenizer, self.template)

    def transform(self, results: dict) -> dict:
        """Build; see the class."""
        rng = results['rng']
        num_turns = 1 if self.one_token_seg_all else len(results['query_frame_ids'])
        results['input_ids'], results['labels'] = [], []
        for expression in results['expressions']:
            questions = rng.integers(len(self.template.questions), size=num_turns).tolist()
            answers = rng.integers(len(self.template.answers), size=num_turns).tolist()
            input_ids, labels = build_conversation(
                self.tokenizer, self.template, expression['exp'],
                len(results['context_frame_ids']), questions, answers)
            results['input_ids'].append(np.asarray(input_ids, dtype=np.int64))
            results['labels'].append(np.asarray(labels, dtype=np.int64))
        return results


@TRANSFORMS.register_module()
class BuildTalk(BaseTransform):
    """Choose what a conversation shows, and build its ids; the first transform for talk.

    Every image is shown; of a video, one random frame of each of ``num_context`` equal clips, as
    referring samples show it. There are no query frames and no masks, so that a model learns from
    the answers alone. They are supervised as a whole. See
    :func:`glus_mm.text.prompt.build_talk` for the text.

    Required keys: ``expressions``, ``media`` and ``rng``, as :class:`ConversationDataset` gives
    them. Added keys: ``context_frame_ids``, positions in ``img_paths`` in the order in which they
    are shown; ``query_frame_ids``, empty; ``input_ids`` and ``labels`` as ``BuildConversation``
    adds them. Modified: ``expressions``, one for each conversation.

    Args:
        tokenizer: name or folder, as for ``SegTokenizer.from_pretrained``; the MLLM's.
        template: name of the prompt template.
        num_context: frames shown of a video.
        num_pairs: None takes a conversation as it is, with all its turns. A number is for data
            whose pairs of question and answer do not depend on one another: at most so many pairs
            are drawn, and each is a conversation of its own about the same images, whose tokens
            are computed once, so that no answer gives another one away.
        max_images: the most images that a conversation may show, frames of videos included.

    Raises:
        ValueError: an argument is out of its range or unknown; a conversation shows more than
            ``max_images``, or it shows something after its first question with ``num_pairs``.
    """

    def __init__(self, tokenizer: str, template: str, num_context: int = 4,
                 num_pairs: int | None = None, max_images: int = 8) -> None:
        checked(1, num_context=num_context, max_images=max_images)
        if num_pairs is not None:
            checked(1, num_pairs=num_pairs)
        self.template = get_template(template)
        self.tokenizer = load_tokenizer(tokenizer, self.template)
        self.num_context = num_context
        self.num_pairs = num_pairs
        self.max_images = max_images

    def transform(self, results: dict) -> dict:
        """Build; see the class."""
        shown: list[int] = []
        for kind, start, number in results['media']:
            positions = [0] if kind == IMAGE_TOKEN else one_per_clip(
                number, self.num_context, results['rng'])
            shown += [start + i for i in positions]
        if len(shown) > self.max_images:
            raise ValueError(f'expected at most {self.max_images} images (max_images; a video '
                             f'counts {self.num_context}), got {len(shown)}')
        results.update(context_frame_ids=shown, query_frame_ids=[], input_ids=[], labels=[])
        conversations = self._conversations(results)
        for turns in conversations:
            ids, labels = build_talk(
                self.tokenizer, self.template, [(pair['exp'], pair['answer']) for pair in turns],
                self.num_context)
            results['input_ids'].append(ids)
            results['labels'].append(labels)
        results['expressions'] = [
            dict(turns[0], **{key: ' | '.join(turn[key].strip() for turn in turns)
                              for key in ('exp', 'answer')}) for turns in conversations]
        return results

    def _conversations(self, results: dict) -> list[list[dict[str, Any]]]:
        """The pairs of question and answer of each conversation."""
        pairs = results['expressions']
        if self.num_pairs is None:
            return [pairs]
        # What the first question shows goes before every question.
        media = [kind for kind, _, _ in results['media']]
        first = pairs[0]['exp']
        if sum(map(first.count, set(media))) != len(media):
            raise ValueError('expected everything that is shown in the first question, as '
                             'num_pairs takes the pairs apart, got more in a later one')
        for kind in set(media):
            first = first.replace(kind, '')
        lead = ''.join(media) + '\n'
        questions = [first, *(pair['exp'] for pair in pairs[1:])]
        chosen = results['rng'].choice(
            len(pairs), min(self.num_pairs, len(pairs)), replace=False)
        return [[dict(pairs[i], exp=lead + questions[i].strip())] for i in chosen]
