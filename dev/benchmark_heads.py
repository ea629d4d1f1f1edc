"""Time the mask head on the package sam2 and on transformers, side by side in one run.

Both have the same weights and see the same frames; what they make of them is compared, too.

    python dev/benchmark_heads.py                         # the sizes of glus_tiny
    python dev/benchmark_heads.py --sam2 sam2.1_hiera_t --image-size 512 --device cuda
"""

import argparse
import statistics
import time

import torch

from glus_mm.models import SAM2MemoryHead

TINY = dict(embed_dim=16, stages=(1, 2, 2, 1), d_model=128, mem_dim=64, dropout=0.0)


def run(head: SAM2MemoryHead, images: torch.Tensor, tokens: torch.Tensor, train: bool
        ) -> tuple[float, float, torch.Tensor]:
    """Seconds for the image encoder and for the rest, and the logits (T, N, h, w)."""
    def now() -> float:
        if images.is_cuda:
            torch.cuda.synchronize()
        return time.perf_counter()

    start = now()
    feats = [head.extract_feat(image[None]) for image in images]
    encoded = now()
    banks = [head.new_memory() for _ in range(tokens.shape[1])]
    logits = []
    for t, frame in enumerate(feats):
        pred = head(frame, tokens[t], banks, t)
        for bank, entry in zip(banks, head.encode_memory(pred)):
            bank.add(t, entry)
        logits.append(pred.low_res_logits)
    if train:
        torch.stack(logits).sigmoid().mean().backward()
        head.zero_grad()
    return encoded - start, now() - encoded, torch.stack(logits).detach()


def main() -> None:
    """Alternate between the two, so that what else the machine does meets both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--sam2', default=TINY, help='name of a published SAM-2')
    parser.add_argument('--image-size', type=int, default=128)
    parser.add_argument('--frames', type=int, default=8)
    parser.add_argument('--tracks', type=int, default=4)
    parser.add_argument('--repeats', type=int, default=7)
    parser.add_argument('--device', default='cpu')
    args = parser.parse_args()
    torch.manual_seed(0)
    heads = {name: SAM2MemoryHead(args.sam2, args.image_size, False, backend=name).to(args.device)
             for name in ('sam2', 'transformers')}
    heads['transformers'].load_state_dict(heads['sam2'].state_dict())
    images = torch.randn(args.frames, 3, args.image_size, args.image_size, device=args.device)
    tokens = torch.randn(args.frames, args.tracks, heads['sam2'].token_dim, device=args.device)
    print('| phase | backend | image encoder, ms a frame | decoder and memory, ms a frame |')
    print('|---|---|---:|---:|')
    for train in (False, True):
        times, logits = {name: [] for name in heads}, {}
        for repeat in range(args.repeats + 1):
            for name, head in heads.items():
                head.eval()
                with torch.set_grad_enabled(train):
                    *seconds, logits[name] = run(head, images, tokens, train)
                if repeat:
                    times[name].append(seconds)
        for name, seconds in times.items():
            encode, decode = (1000 * statistics.median(part) / args.frames
                              for part in zip(*seconds))
            print(f'| {"forward and backward" if train else "inference"} | {name} | '
                  f'{encode:.2f} | {decode:.2f} |')
        decided = logits['sam2'].abs() > 1e-3
        differ = ((logits['sam2'] > 0) != (logits['transformers'] > 0)) & decided
        print(f'masks differ in {int(differ.sum())} of {int(decided.sum())} pixels above 1e-3; '
              f'logits by at most {(logits["sam2"] - logits["transformers"]).abs().max():.1e}')


if __name__ == '__main__':
    main()
