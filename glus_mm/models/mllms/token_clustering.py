"""Merging of visual tokens by density peaks over k nearest neighbours, as Chat-UniVi does.

Nothing here has weights. No gradient runs through the assignment of tokens to clusters; it runs
through the means. Everything is computed in float32 at least, and sample by sample in the same
order, so that the tokens of a frame do not depend on the batch that it comes in.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from glus_mm.utils.precision import at_least_float32

SPATIAL_NEIGHBOURS = (5, 3, 3)
"""Neighbours k of the three levels of clustering of a frame."""

TEMPORAL_NEIGHBOURS = 5
"""Neighbours k of the clustering of frames into events."""

TIE_BREAK = 1e-6
"""Bound of the random number that is added to a density."""

MAX_IMAGES = 2
"""Up to here frames in a row are images to Chat-UniVi, from there on a video."""


def cluster_tokens(tokens: Tensor, num_clusters: int, k: int, seed: int = 0) -> Tensor:
    """Assign tokens to clusters.

    The distance of two tokens is the Euclidean one over sqrt(C); the density of a token
    exp(-mean squared distance to its k nearest tokens, itself among them); its delta the distance
    to the nearest token of higher density, or the largest distance in the sample where there is
    none. The tokens with the highest delta * density are the centres, and every token goes to its
    nearest centre, a centre to itself.

    Args:
        tokens: (B, N, C).
        num_clusters: n, at most N.
        k: neighbours; with fewer clusters than that min(3, max(n // 2, 1)).
        seed: of the random numbers that break ties of density; they belong to the places 0..N-1
            and are the same for every sample.

    Returns:
        int64 (B, N), numbers of clusters; cluster 0 has the centre of the highest score.

    Raises:
        ValueError: there are fewer tokens than clusters, or ``num_clusters`` or ``k`` is below 1.
    """
    count, width = tokens.shape[1:]
    if not 1 <= num_clusters <= count:
        raise ValueError(f'expected 1..{count} clusters of {count} tokens, got {num_clusters}')
    if k < 1:
        raise ValueError(f'expected at least one neighbour, got {k}')
    with torch.no_grad():
        values = at_least_float32(tokens.detach())
        # The way by a matrix product loses the small distances, and depends on the batch.
        distances = torch.cdist(
            values, values, compute_mode='donot_use_mm_for_euclid_dist') / math.sqrt(width)
        k = k if k <= num_clusters else min(3, max(num_clusters // 2, 1))
        nearest = distances.topk(k, dim=-1, largest=False).values
        noise = torch.rand(count, generator=torch.Generator().manual_seed(seed),
                           dtype=torch.float64) * TIE_BREAK
        # In float64, as a density near 1 leaves float32 few numbers to break a tie with.
        density = (-nearest.double().square().mean(-1)).exp() + noise.to(nearest.device)
        higher = density[:, None, :] > density[:, :, None]
        largest = distances.flatten(1).amax(1)[:, None, None]
        delta = torch.where(higher, distances, largest).amin(-1)
        centres = delta.mul(density).argsort(dim=-1, descending=True, stable=True)[:, :num_clusters]
        to_centre = distances.gather(1, centres[..., None].expand(-1, -1, count))
        own = torch.arange(num_clusters, device=tokens.device).expand_as(centres)
        return to_centre.argmin(1).scatter(1, centres, own)


def merge_tokens(tokens: Tensor, clusters: Tensor, num_clusters: int) -> Tensor:
    """Mean of the tokens of each cluster.

    Args:
        tokens: (B, N, C).
        clusters: int64 (B, N) in 0..n-1, none of them empty.
        num_clusters: n.

    Returns:
        (B, n, C) in float32 at least.
    """
    batch = len(tokens)
    offset = torch.arange(batch, device=tokens.device)[:, None] * num_clusters
    number = (clusters + offset).flatten()
    # Sorted, the members of a cluster are added up in the order of the tokens, one after another:
    # index_add does so too, but not on a GPU.
    order = number.argsort(stable=True)
    merged = torch.segment_reduce(
        at_least_float32(tokens).flatten(0, 1)[order], 'mean', axis=0,
        lengths=number.bincount(minlength=batch * num_clusters))
    return merged.unflatten(0, (batch, num_clusters))


def merge_frames(tokens: Tensor, counts: Sequence[int], seed: int = 0) -> list[Tensor]:
    """Cluster the tokens of frames, level upon level.

    Args:
        tokens: (M, N, C), the patches of each frame.
        counts: clusters n of each level, of which each works on what the one before gives.
        seed: see :func:`cluster_tokens`.

    Returns:
        The tokens (M, n, C) of each level.
    """
    levels = []
    for count, k in zip(counts, SPATIAL_NEIGHBOURS, strict=True):
        tokens = merge_tokens(tokens, cluster_tokens(tokens, count, k, seed), count)
        levels.append(tokens)
    return levels


def merge_video(tokens: Tensor, counts: Sequence[int], temporal_rate: float, seed: int = 0
                ) -> Tensor:
    """Cluster the frames of a video into events, and the tokens of each event again.

    Args:
        tokens: (T, N, C), the patches of each frame.
        counts: clusters n of each level, of a frame and of an event alike.
        temporal_rate: events per frame.
        seed: see :func:`cluster_tokens`.

    Returns:
        (events * sum of counts, C): event by event in the order of their first frames, level by
        level. Videos of one or two frames are that many images.
    """
    levels = merge_frames(tokens, counts, seed)
    if len(tokens) <= MAX_IMAGES:
        return torch.cat(levels, 1).flatten(0, 1)
    parts = []
    for frames in split_events(tokens, temporal_rate, seed):
        for level, count, k in zip(levels, counts, SPATIAL_NEIGHBOURS):
            event = level[frames].flatten(0, 1)[None]
            parts.append(merge_tokens(event, cluster_tokens(event, count, k, seed), count)[0])
    return torch.cat(parts)


def split_events(tokens: Tensor, temporal_rate: float, seed: int = 0) -> list[Tensor]:
    """Cluster the frames of a video by their mean tokens.

    Args:
        tokens: (T, N, C), the patches of each frame.
        temporal_rate: events per frame; there are ceil(T * rate) of them.
        seed: see :func:`cluster_tokens`.

    Returns:
        For each event the positions of its frames, ascending; events by their first frame.
    """
    means = at_least_float32(tokens.detach()).mean(1)[None]
    num_events = math.ceil(len(tokens) * temporal_rate)
    event_of = cluster_tokens(means, num_events, TEMPORAL_NEIGHBOURS, seed)[0]
    events = dict.fromkeys(event_of.tolist())
    return [torch.nonzero(event_of == event).flatten() for event in events]
