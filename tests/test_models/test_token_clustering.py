"""Token clustering: against a slow plain reference, at any batch size, and on degenerate input."""

import math

import pytest
import torch

from glus_mm.models.mllms import token_clustering
from glus_mm.models.mllms.token_clustering import (
    cluster_tokens,
    merge_frames,
    merge_tokens,
    merge_video,
    split_events,
)

COUNTS = (12, 6, 3)


def random_tokens(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def reference(tokens, num_clusters, k, seed=0):
    """One sample (N, C): clusters of its tokens and their means, with Python's numbers only."""
    points = tokens.double().tolist()
    count, width = len(points), len(points[0])
    k = min(3, max(num_clusters // 2, 1)) if k > num_clusters else k
    noise = torch.rand(
        count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).tolist()
    distance = [[math.dist(a, b) / math.sqrt(width) for b in points] for a in points]
    density = [math.exp(-sum(d * d for d in sorted(row)[:k]) / k) + 1e-6 * noise[i]
               for i, row in enumerate(distance)]
    largest = max(map(max, distance))
    scores = []
    for i in range(count):
        higher = [distance[i][j] for j in range(count) if density[j] > density[i]]
        scores.append((min(higher) if higher else largest) * density[i])
    centres = sorted(range(count), key=lambda i: -scores[i])[:num_clusters]
    clusters = []
    for i in range(count):
        nearest = min(range(num_clusters), key=lambda c: distance[i][centres[c]])
        clusters.append(centres.index(i) if i in centres else nearest)
    means = [[sum(points[i][d] for i in range(count) if clusters[i] == c) / clusters.count(c)
              for d in range(width)] for c in range(num_clusters)]
    return torch.tensor(clusters), torch.tensor(means)


def close(a, b, atol=1e-5):
    torch.testing.assert_close(a, b, rtol=0, atol=atol, check_dtype=False)


@pytest.mark.parametrize('count, num_clusters, k', [
    (20, 8, 5), (20, 8, 3), (9, 4, 5), (7, 2, 5), (6, 1, 5), (5, 5, 3), (1, 1, 5)])
def test_one_step_is_the_plain_reference(count, num_clusters, k):
    tokens = random_tokens(3, count, 6, seed=count)
    clusters = cluster_tokens(tokens, num_clusters, k)
    merged = merge_tokens(tokens, clusters, num_clusters)
    for sample, row, means in zip(tokens, clusters, merged):
        expected_row, expected_means = reference(sample, num_clusters, k)
        assert row.tolist() == expected_row.tolist()
        close(means, expected_means)


def test_by_hand_and_in_levels():
    points = torch.tensor([0.0, 0.1, 0.2, 1.0, 1.1, 1.9])
    clusters = cluster_tokens(points[None, :, None], 3, 2)[0]
    # Five densities are exp(-0.1^2 / 2) = 0.995, that of the lone point exp(-0.8^2 / 2) = 0.726,
    # with delta 0.8 it is third. The densest of all has delta 1.9, the denser one of the other
    # group 0.8 or more; the rest has 0.1 or 0.2.
    groups = {tuple((clusters == c).nonzero().flatten().tolist()) for c in range(3)}
    assert groups == {(0, 1, 2), (3, 4), (5, )}
    assert clusters[5] == 2
    frames = random_tokens(2, 25, 4)
    levels = merge_frames(frames, COUNTS)
    assert [level.shape for level in levels] == [(2, n, 4) for n in COUNTS]
    for m, tokens in enumerate(frames):
        for level, count, k in zip(levels, COUNTS, (5, 3, 3)):
            tokens = reference(tokens, count, k)[1]
            close(level[m], tokens)
    assert token_clustering.SPATIAL_NEIGHBOURS == (5, 3, 3)
    assert token_clustering.TEMPORAL_NEIGHBOURS == 5


@pytest.mark.parametrize('frames, rate', [(3, 1 / 16), (7, 1 / 3), (17, 1 / 16)])
def test_a_video_is_the_plain_reference(frames, rate):
    tokens = random_tokens(frames, 20, 4, seed=frames)
    num_events = math.ceil(frames * rate)
    event_of = reference(tokens.mean(1), num_events, 5)[0].tolist()
    order = list(dict.fromkeys(event_of))
    expected = []
    levels = merge_frames(tokens, COUNTS)
    for event in order:
        members = [t for t in range(frames) if event_of[t] == event]
        for level, count, k in zip(levels, COUNTS, (5, 3, 3)):
            expected.append(reference(level[members].flatten(0, 1), count, k)[1])
    merged = merge_video(tokens, COUNTS, rate)
    assert merged.shape == (num_events * sum(COUNTS), 4)
    close(merged, torch.cat(expected))


def test_events_are_scenes_in_the_order_of_time():
    scenes = random_tokens(3, 1, 8, seed=1) * 4
    order = [1, 1, 1, 1, 0, 0, 0, 0, 2, 2, 2, 2]
    tokens = scenes[order] + 0.01 * random_tokens(12, 9, 8)
    events = split_events(tokens, 1 / 4)
    assert [event.tolist() for event in events] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]


@pytest.mark.parametrize('frames', [1, 2])
def test_one_or_two_frames_are_images(frames):
    tokens = random_tokens(frames, 20, 4)
    images = torch.cat(merge_frames(tokens, COUNTS), 1)
    assert torch.equal(merge_video(tokens, COUNTS, 1 / 16), images.flatten(0, 1))


@pytest.mark.parametrize('split', [1, 2, 3])
def test_the_batch_changes_nothing(split):
    tokens = random_tokens(6, 64, 32)
    together = merge_frames(tokens, (16, 8, 4))
    apart = [merge_frames(part, (16, 8, 4)) for part in tokens.split(split)]
    for level, parts in zip(together, zip(*apart)):
        assert torch.equal(level, torch.cat(parts))


def test_seeds():
    tokens = torch.zeros(2, 30, 4)
    state = torch.get_rng_state()
    first = cluster_tokens(tokens, 7, 5)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    assert torch.equal(cluster_tokens(tokens, 7, 5), first)
    grid = torch.stack(torch.meshgrid(*[torch.arange(6.0)] * 2, indexing='ij'), -1).view(1, 36, 2)
    seeds = [cluster_tokens(grid, 9, 5, seed=seed) for seed in range(4)]
    assert len({tuple(clusters[0].tolist()) for clusters in seeds}) > 1
    tokens = random_tokens(1, 36, 8)
    assert torch.equal(cluster_tokens(tokens, 9, 5, seed=0), cluster_tokens(tokens, 9, 5, seed=1))
    tokens = random_tokens(1, 40, 8, seed=3)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    clusters = cluster_tokens(tokens, 10, 5)
    assert torch.equal(cluster_tokens(tokens[:, order], 10, 5), clusters[:, order])
    permuted = merge_frames(tokens[:, order], COUNTS)
    for level, other in zip(merge_frames(tokens, COUNTS), permuted, strict=True):
        close(other, level)


def test_gradients():
    tokens = random_tokens(2, 20, 3, dtype=torch.float64).requires_grad_()
    clusters = cluster_tokens(tokens, 5, 3)
    assert not clusters.requires_grad
    weights = random_tokens(2, 5, 3, seed=1, dtype=torch.float64)
    (merge_tokens(tokens, clusters, 5) * weights).sum().backward()
    for b in range(2):
        for i in range(20):
            cluster = clusters[b, i]
            size = int((clusters[b] == cluster).sum())
            close(tokens.grad[b, i], weights[b, cluster] / size, atol=1e-12)
    tokens = random_tokens(4, 16, 3, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: torch.cat(merge_frames(x, COUNTS), 1), tokens, fast_mode=True)
    assert torch.autograd.gradcheck(
        lambda x: merge_video(x, COUNTS, 1 / 2), tokens, fast_mode=True)


def test_odd_tokens():
    tokens = torch.full((2, 30, 4), 3.0)
    clusters = cluster_tokens(tokens, 7, 5)
    assert sorted(set(clusters[0].tolist())) == list(range(7))
    assert torch.equal(merge_tokens(tokens, clusters, 7), torch.full((2, 7, 4), 3.0))
    video = merge_video(torch.full((9, 30, 4), 3.0), COUNTS, 1 / 2)
    assert torch.equal(video, torch.full((5 * sum(COUNTS), 4), 3.0))
    tokens = random_tokens(2, 6, 3)
    clusters = cluster_tokens(tokens, 6, 3)
    merged = merge_tokens(tokens, clusters, 6)
    for b in range(2):
        assert sorted(clusters[b].tolist()) == list(range(6))
        assert torch.equal(merged[b, clusters[b]], tokens[b])
    tokens = random_tokens(1, 20, 4) * 1e4
    clusters = cluster_tokens(tokens, 5, 3)
    assert sorted(set(clusters[0].tolist())) == list(range(5))
    assert torch.isfinite(merge_tokens(tokens, clusters, 5)).all()


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_is_lifted(dtype):
    tokens = random_tokens(2, 20, 4).to(dtype)
    merged = merge_frames(tokens, COUNTS)
    assert all(level.dtype == torch.float32 for level in merged)
    for level, lifted in zip(merged, merge_frames(tokens.float(), COUNTS)):
        assert torch.equal(level, lifted)


@pytest.mark.parametrize('num_clusters, k, message', [
    (0, 5, '1..4 clusters of 4 tokens, got 0'), (5, 5, '1..4 clusters of 4 tokens, got 5'),
    (2, 0, 'at least one neighbour, got 0')])
def test_wrong_counts_are_refused(num_clusters, k, message):
    with pytest.raises(ValueError, match=message):
        cluster_tokens(random_tokens(1, 4, 2), num_clusters, k)
