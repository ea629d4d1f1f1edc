"""Makes the SentencePiece model of the shipped 'tiny' tokenizer.

    python dev/train_tiny_tokenizer.py [OUT_DIR]

The corpus is made here from word lists and sentence templates, so that nothing is downloaded and
the same SentencePiece build, which recipe.json records, gives the same bytes. Every word of
MovingShapes and of the 'compact' prompt becomes one piece; the other slots go to frequent English
words and word endings, and every other character is spelled in bytes. Writes tokenizer.model,
added_tokens.json and recipe.json.
"""

import argparse
import io
import json
import platform
from collections.abc import Iterator
from pathlib import Path

import sentencepiece

ADDED_TOKENS = ('[SEG]', '<im_start>', '<im_end>')
NUM_PIECES = 512 - len(ADDED_TOKENS)
DEFAULT_OUT = Path(__file__).resolve().parents[1] / 'glus_mm/text/assets/tiny'

SHAPES_WORDS = tuple(
    """the a an red green blue yellow purple orange white black cyan pink gray brown circle square
    triangle star diamond shape circles squares triangles stars diamonds shapes object objects
    thing things leftmost rightmost topmost bottommost far left right top bottom upper lower middle
    moving moves move up down upward downward stays stay staying still flashes flash flashing lights
    light lit grows grow growing starts start ends on at all both big small bigger smaller biggest
    smallest largest large that which is are it in of to and from with this these frame frames
    context where segment one two three goes going not then side edge other first last fast slow
    slowly toward towards into near""".split()
)
PROMPT_WORDS = tuple(
    """Where These What Please USER ASSISTANT Sure It Can you result segmentation mask""".split()
)
GENERAL_WORDS = tuple(
    """person man woman boy girl child people dog cat horse bird fish cow sheep car bus truck bike
    ball hand head walking running jumping turning standing sitting holding playing riding looking
    behind front between over under back by for his her its who was has out off while after before
    wearing they he she him there them how many most same different along around across away no
    body face water""".split()
)
ENDINGS = tuple('s ed ing er ly est'.split())
# Capitals are spelled in bytes: expressions are lower-cased before they are encoded.
CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,:;?!'\"()-/"


def corpus() -> Iterator[str]:
    """Yields the training sentences; earlier word lists weigh more."""
    for words, weight in ((SHAPES_WORDS, 40), (PROMPT_WORDS, 40), (GENERAL_WORDS, 30)):
        for i, word in enumerate(words):
            following = words[(7 * i + 3) % len(words)]
            for _ in range(weight):
                yield f'{word} {following}'
    # Endings after many made-up stems, so that they, not whole words, become pieces.
    for first in 'bcdfghjklmnprstvw':
        for second in 'aeiou':
            for third in 'klmnpst':
                for ending in ENDINGS:
                    yield f'{first}{second}{third}{ending}'
    for colour in ('red', 'green', 'blue', 'yellow', 'purple', 'orange', 'white'):
        for noun in ('circle', 'square', 'triangle', 'star', 'diamond', 'shape'):
            yield f'USER: Where is the {colour} {noun}? ASSISTANT: the {colour} {noun} is'
    yield from CHARACTERS


def train() -> bytes:
    """Train; returns the serialized SentencePiece model.

    Raises:
        RuntimeError: a word that has to be one piece is not.
    """
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=corpus(), model_writer=model, model_type='unigram',
        vocab_size=NUM_PIECES, byte_fallback=True, character_coverage=1.0,
        required_chars=CHARACTERS, split_digits=True, normalization_rule_name='identity',
        remove_extra_whitespaces=False, add_dummy_prefix=True, unk_id=0, bos_id=1, eos_id=2,
        pad_id=-1, num_threads=1, shuffle_input_sentence=False, minloglevel=2)
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    split = [word for word in SHAPES_WORDS + PROMPT_WORDS if len(processor.encode(word)) != 1]
    if split:
        raise RuntimeError(f'expected one piece for each of these words: {split}')
    return model.getvalue()


def build() -> dict[str, str]:
    """What the bytes may depend on besides this script: training sums floating-point numbers."""
    return dict(sentencepiece=sentencepiece.__version__,
                platform=f'{platform.system()}-{platform.machine()}')


def main() -> None:
    """Trains the model and writes the tokenizer folder."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('out', nargs='?', type=Path, default=DEFAULT_OUT, help='output folder')
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    (out / 'tokenizer.model').write_bytes(train())
    added = {token: NUM_PIECES + i for i, token in enumerate(ADDED_TOKENS)}
    for name, content in (('added_tokens.json', added), ('recipe.json', build())):
        (out / name).write_text(json.dumps(content, indent=2) + '\n', encoding='utf-8')


if __name__ == '__main__':
    main()
