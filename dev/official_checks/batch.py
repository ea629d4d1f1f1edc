"""The batch that the official loader made, made by our data set and pipeline."""

import re
from collections.abc import Sequence

import numpy as np
from mmengine.dataset import pseudo_collate

from glus_mm.datasets import (
    BuildConversation,
    LoadRefVOSFrames,
    LoadRefVOSMasks,
    MeViSDataset,
    PackRefVOSInputs,
    ResizeForEncoders,
)
from glus_mm.models import GLUS
from glus_mm.text.prompt import get_template
from official_checks.fixture import OfficialFixture
from official_checks.report import FixtureError, Report

TEMPLATE = 'llava_v1'


class RecordedDraws:
    """Stands in for the random generator of a sample: gives the recorded indices in their order.

    Args:
        draws: what each call of :meth:`integers` returns.
    """

    def __init__(self, draws: Sequence[Sequence[int]]) -> None:
        self._draws = iter(draws)

    def integers(self, high: int, size: int) -> np.ndarray:
        """Return the next recorded indices, ``size`` of them below ``high``."""
        draw = np.array(next(self._draws))
        if draw.shape != (size, ) or draw.max() >= high:
            raise FixtureError(f'expected {size} recorded indices below {high}, got {draw}')
        return draw


class RecordedChoice:
    """First transform of a sample: frames, expressions and texts that the official loader drew.

    Args:
        samples: ``samples`` of the fixture's expected.json.
        conversations: all of its conversations, in the order of the samples' expressions.
        num_context: context frames.
    """

    def __init__(self, samples: Sequence[dict], conversations: Sequence[str],
                 num_context: int) -> None:
        self.samples = {sample['video']: sample for sample in samples}
        self.num_context = num_context
        template = get_template(TEMPLATE)
        self.questions = [question.split('\n')[1] for question in template.questions]
        self.answers = template.answers
        self.conversations, rest = {}, iter(conversations)
        for sample in samples:
            self.conversations[sample['video']] = [next(rest) for _ in sample['str_ids']]

    def __call__(self, results: dict) -> dict:
        """Fill in what the sampling transforms would."""
        sample = self.samples[results['video_id']]
        position = {name: i for i, name in enumerate(results['frame_names'])}
        frames = [position[re.split(r'[/.]', name)[-2]] for name in sample['frame_files']]
        results['context_frame_ids'] = frames[:self.num_context]
        results['query_frame_ids'] = frames[self.num_context:]
        expressions = {item['exp_id']: item for item in results['expressions']}
        # An id is <data set>_<video>_<expression>.
        results['expressions'] = [expressions[i.split('_', 2)[2]] for i in sample['str_ids']]
        results['rng'] = RecordedDraws([
            indices for texts in zip(sample['sampled_classes'], sample['questions'],
                                     self.conversations[sample['video']], strict=True)
            for indices in self._indices(*texts)])
        return results

    def _indices(self, expression: str, questions: Sequence[str], conversation: str
                 ) -> tuple[list[int], list[int]]:
        known = [question.replace('{x}', expression.lower()) for question in self.questions]
        answers = re.findall(r'ASSISTANT: (.*?)</s>', conversation)
        return ([_position(known, question.split('\n')[1]) for question in questions],
                [_position(self.answers, answer) for answer in answers])


def _position(known: Sequence[str], text: str) -> int:
    if text not in known:
        raise FixtureError(f'expected a text of the official templates {list(known)}, '
                           f'got {text!r}')
    return known.index(text)


def make_batch(fixture: OfficialFixture, model: GLUS) -> tuple[dict, list]:
    """The recorded batch, made by our data set and pipeline.

    Returns:
        Inputs and data samples, preprocessed.
    """
    record = fixture.json('train/expected.json')
    choice = RecordedChoice(
        record['samples'], record['conversations'], record['context_frame_num'])
    dataset = MeViSDataset(
        data_root=str(fixture.path('train/mevis/train')), min_frames=4, pipeline=[
            choice, LoadRefVOSFrames(), LoadRefVOSMasks(overlap='sum'),
            ResizeForEncoders(model.mllm.image_size, model.mask_head.image_size),
            BuildConversation(str(fixture.path('checkpoint')), TEMPLATE), PackRefVOSInputs()])
    index = {dataset.get_data_info(i)['video_id']: i for i in range(len(dataset))}
    batch = pseudo_collate([dataset[index[sample['video']]] for sample in record['samples']])
    batch = model.data_preprocessor(batch, True)
    return batch['inputs'], batch['data_samples']


def check_batch(fixture: OfficialFixture, report: Report, inputs: dict, samples: list) -> None:
    """Compare the batch: token ids, labels, images and masks."""
    record, arrays = fixture.json('train/expected.json'), fixture.arrays('train/inputs.npz')
    num_context = record['context_frame_num']
    rows = [ids for video in inputs['input_ids'] for ids in video]
    labels = [ids for video in inputs['labels'] for ids in video]
    lengths = arrays['attention_masks'].sum(1)
    report.same('lengths of the conversations', [len(row) for row in rows], lengths)
    report.same('conversations per video, cumulative',
                np.cumsum([0, *map(len, inputs['input_ids'])]), arrays['offset'])
    for i, length in enumerate(lengths):
        report.same('token ids', rows[i], arrays['input_ids'][i, :length])
        report.same('labels', labels[i], arrays['labels'][i, :length])
    for b, sample in enumerate(samples):
        vision, sam = inputs['clip_imgs'][b], inputs['sam_imgs'][b]
        report.close('images of the vision tower', vision[..., ::8, ::8],
                     arrays['images_clip_s8'][b], 1e-5)
        report.close('images of SAM-2', sam[..., ::64, ::64],
                     arrays['images_s64'][b, num_context:], 1e-4)
        for name, images, key, start in (('vision tower', vision, 'images_clip_sum', 0),
                                         ('SAM-2', sam, 'images_sum', num_context)):
            official = np.array(record['image_hash'][key][b][start:]) / images[0].numel()
            report.close(f'mean of the images of {name}', images.double().mean((1, 2, 3)),
                         official, 1e-5)
        report.same("masks, overlap='sum'", sample.gt_masks, arrays[f'masks_b{b}'])
