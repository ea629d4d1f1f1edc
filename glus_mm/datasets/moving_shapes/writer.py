"""Writes a MovingShapes split in the MeViS layout."""
import functools
import json
import multiprocessing
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

from glus_mm.utils.checked import checked
from glus_mm.utils.masks import encode_mask
from glus_mm.utils.video_writer import OverlayVideoWriter

from .scene import NUM_FRAMES, get_variant, motion_of
from .talk import Pair, sample_talk
from .video import SPLIT_CODES, MovingShapesVideo, generate_video

JPEG_QUALITY = 92
VIDEO_FPS = 6
_PARTS = ('meta_expressions.json', 'mask_dict.json', 'objects.json', 'talk.json',
          'JPEGImages', 'videos')
# Keeps the random numbers of talk apart from those of the videos.
_TALK = 0x74616C6B


def write_split(out: str | Path, num_videos: int, seed: int, split: str, mp4: bool = True,
                workers: int = 1, overwrite: bool = False,
                progress: Callable[[], None] | None = None, variant: str = 'default',
                talk: int = 0, num_frames: int = NUM_FRAMES) -> Path:
    """Generate ``num_videos`` videos and write them below ``out/split``.

    Writes ``JPEGImages/<vid>/<frame>.jpg``, ``videos/<vid>.mp4``, and last, so that a split with
    annotations is complete, ``talk.json`` where asked for, ``mask_dict.json``, ``objects.json``
    (the simulated truth, see :func:`object_records`) and ``meta_expressions.json``. Seed and split
    determine every byte of the JSON and JPEG files (at given versions of NumPy and OpenCV); a
    smaller split is the beginning of a larger one.

    Args:
        out: root of the data set; made where it does not exist.
        num_videos: number of videos, >= 1.
        seed: seed, >= 0.
        split: 'train' or 'valid_u'.
        mp4: whether to write the videos as H.264 too. Defaults to True.
        workers: number of processes; has no influence on the bytes. Defaults to 1.
        overwrite: whether to replace an earlier split. Defaults to False.
        progress: called once after each video.
        variant: a key of ``VARIANTS``, which the ids of the videos name unless it is the
            default one. Defaults to 'default'.
        talk: number of questions and answers a video, for ``talk.json``; 0 writes no such
            file. It has no influence on the other files. Defaults to 0.
        num_frames: number of frames of a video, see :func:`generate_video`. Defaults to 12.

    Raises:
        ValueError: an argument is out of its range.
        FileExistsError: the split's folder holds something and ``overwrite`` is False.
        OSError: the folder cannot be written; found before any video is generated.
    """
    checked(1, num_videos=num_videos, workers=workers)
    checked(sorted(SPLIT_CODES), split=split)
    checked(0, seed=seed, talk=talk)
    if num_frames < NUM_FRAMES or (talk and num_frames != NUM_FRAMES):
        raise ValueError(f'expected num_frames >= {NUM_FRAMES}, and {NUM_FRAMES} with talk, whose '
                         f'questions count on it, got {num_frames}')
    get_variant(variant)
    folder = _prepare_folder(Path(out) / split, mp4, overwrite)
    make = functools.partial(_write_video, folder, seed, split, mp4, variant, talk, num_frames)
    meta, mask_dict, objects, conversations = {}, {}, {}, []
    for video_id, record, rles, pairs, truth in _map_in_order(make, num_videos, workers):
        # Annotation ids count on through the split, in the order of the videos.
        first = len(mask_dict)
        for expression in record['expressions'].values():
            expression['anno_id'] = [first + i for i in expression['obj_id']]
        mask_dict.update({str(first + i): track for i, track in enumerate(rles)})
        meta[video_id] = record
        conversations.append(_conversation(video_id, pairs))
        objects[video_id] = [dict(item, anno_id=first + i) for i, item in enumerate(truth)]
        if progress is not None:
            progress()
    if talk:
        _write_json(folder / 'talk.json', conversations)
    _write_json(folder / 'mask_dict.json', mask_dict)
    _write_json(folder / 'objects.json', objects)
    _write_json(folder / 'meta_expressions.json', {'videos': meta})
    return folder


def _prepare_folder(folder: Path, mp4: bool, overwrite: bool) -> Path:
    """Make an empty, writable split folder, or say why there cannot be one."""
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f'expected a folder, got a file: {folder}')
    if folder.is_dir() and any(folder.iterdir()):
        if not overwrite:
            raise FileExistsError(f'expected an empty folder, got one with files in it: {folder} '
                                  '(overwrite replaces an earlier split)')
        for name in _PARTS:
            part = folder / name
            if part.is_dir():
                shutil.rmtree(part)
            else:
                part.unlink(missing_ok=True)
    (folder / 'JPEGImages').mkdir(parents=True, exist_ok=True)
    if mp4:
        (folder / 'videos').mkdir(exist_ok=True)
    probe = folder / 'mask_dict.json'
    probe.touch()
    probe.unlink()
    return folder


def _map_in_order(make: Callable, num_videos: int, workers: int) -> Iterator[tuple]:
    if workers == 1:
        yield from map(make, range(num_videos))
        return
    with multiprocessing.get_context('spawn').Pool(workers) as pool:
        yield from pool.imap(make, range(num_videos), chunksize=4)


def _write_video(folder: Path, seed: int, split: str, mp4: bool, variant: str, talk: int,
                 num_frames: int, index: int
                 ) -> tuple[str, dict, list[list], list[Pair], list[dict]]:
    """Write one video's images; return its id, its meta record, one RLE track an object, talk
    and the objects' truth.
    """
    video = generate_video(seed, split, index, variant, num_frames)
    images = folder / 'JPEGImages' / video.video_id
    images.mkdir(parents=True, exist_ok=True)
    for name, frame in zip(video.frame_names, video.frames):
        path = images / f'{name}.jpg'
        bgr = np.ascontiguousarray(frame[..., ::-1])
        if not cv2.imwrite(str(path), bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]):
            raise OSError(f'expected to write a JPEG image, got a failure: {path}')
    if mp4:
        # One thread, or x264 starts one a core in every worker.
        with OverlayVideoWriter(folder / 'videos' / f'{video.video_id}.mp4', VIDEO_FPS,
                                threads=1) as writer:
            for frame in video.frames:
                writer.write(frame)
    rles = [[encode_mask(mask) if mask.any() else None for mask in track] for track in video.masks]
    rng = np.random.default_rng([seed, SPLIT_CODES[split], index, get_variant(variant).code, _TALK])
    pairs = sample_talk(video.objects, video.frames.shape[1:3], rng, talk) if talk else []
    return video.video_id, _meta_record(video), rles, pairs, object_records(video)


def object_records(video: MovingShapesVideo) -> list[dict]:
    """The simulated truth of the objects of a video, as it stands in ``objects.json``.

    Returns:
        For each object, in the order of ``obj_id``: 'shape', 'colour', 'diameter' in
        pixels, 'motion' (that of ``motion_of``, or None), 'flash' (first frame that is lit and the
        frame after the last one, or None), 'enters' (first frame that shows it) and 'centres',
        [x, y] in pixels for each frame. The writer of the split adds 'anno_id'.
    """
    size = video.frames.shape[1:3]
    return [{
        'shape': item.shape, 'colour': item.colour, 'diameter': round(item.diameter, 2),
        'motion': motion_of(item.centres, size),
        'flash': None if item.flash is None else list(item.flash), 'enters': item.enters,
        'centres': np.round(item.centres, 2).tolist(),
    } for item in video.objects]


def _conversation(video_id: str, pairs: list[Pair]) -> dict:
    """The entry of ``talk.json``, in the JSON of LLaVA."""
    messages = []
    for i, pair in enumerate(pairs):
        question = pair.question if i else f'<video>\n{pair.question}'
        messages += [{'from': 'human', 'value': question, 'kind': pair.kind},
                     {'from': 'gpt', 'value': pair.answer}]
    return {'id': video_id, 'video': f'JPEGImages/{video_id}', 'conversations': messages}


def _meta_record(video: MovingShapesVideo) -> dict:
    """The entry of ``meta_expressions.json``; the writer of the split adds the annotation ids."""
    height, width = video.frames.shape[1:3]
    return {
        'expressions': {
            str(i): {'exp': item.text, 'obj_id': list(item.targets), 'anno_id': [],
                     'kind': item.kind}
            for i, item in enumerate(video.expressions)
        },
        'frames': list(video.frame_names),
        'height': height,
        'width': width,
    }



def _write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, separators=(',', ':')) + '\n', encoding='utf-8')
