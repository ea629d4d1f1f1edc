"""Make the tokenizer of the tiny configs: Qwen's kind, trained on expressions of MovingShapes.

Example::

    python projects/qwen_vl/tools/train_tiny_tokenizer.py projects/qwen_vl/qwen_vl/assets/tiny
"""

import argparse

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from glus_mm.datasets.moving_shapes import generate_video
from glus_mm.text.prompt import get_template
from glus_mm.utils.paths import ensure_writable_dir

SPECIAL = ('<|endoftext|>', '<|im_start|>', '<|im_end|>', '<|vision_start|>', '<|vision_end|>',
           '<|image_pad|>', '<|video_pad|>')


def texts(num_videos: int) -> list[str]:
    """Expressions of generated videos and the words of the template around them."""
    template = get_template('compact')
    frame = ['system', 'user', 'assistant', 'You are a helpful assistant.', template.context_text,
             *template.questions, *template.answers]
    found = [expression.text for index in range(num_videos)
             for expression in generate_video(0, 'train', index).expressions]
    return frame * 50 + found


def main() -> None:
    """Train and save."""
    parser = argparse.ArgumentParser(description='Train the tiny tokenizer')
    parser.add_argument('out', metavar='DIR', help='folder to write')
    parser.add_argument('--videos', type=int, default=150, help='default: %(default)s')
    parser.add_argument('--vocabulary', type=int, default=500, help='default: %(default)s')
    args = parser.parse_args()
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(texts(args.videos), trainers.BpeTrainer(
        vocab_size=args.vocabulary, special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token='<|im_end|>', pad_token='<|endoftext|>',
        additional_special_tokens=list(SPECIAL)).save_pretrained(ensure_writable_dir(args.out))


if __name__ == '__main__':
    main()
