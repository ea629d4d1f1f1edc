"""Share work out so that all who do it are done at about the same time."""

import heapq
from collections.abc import Sequence


def balance(costs: Sequence[float], num_parts: int) -> list[list[int]]:
    """Deal items out to parts of about equal cost.

    The most expensive item goes first, each to the part with the least so far (Graham 1969: the
    longest part is at most 4/3 of the best possible). Equal input gives equal output everywhere.

    Args:
        costs: cost of each item, at least 0.
        num_parts: number of parts, at least 1.

    Returns:
        The items of each part by descending cost, items of equal cost in their order.

    Raises:
        ValueError: a cost is negative, or there is no part.

    Examples:
        >>> balance([3, 9, 4, 2, 1], 2)
        [[1], [2, 0, 3, 4]]
    """
    if num_parts < 1:
        raise ValueError(f'expected at least one part, got {num_parts}')
    wrong = [cost for cost in costs if not cost >= 0]
    if wrong:
        raise ValueError(f'expected costs of at least 0, got {wrong[0]}')
    parts: list[list[int]] = [[] for _ in range(num_parts)]
    # Of parts with equal cost the one with fewer items: items may cost nothing.
    load = [(0.0, 0, part) for part in range(num_parts)]
    for item in sorted(range(len(costs)), key=lambda i: -costs[i]):
        cost, number, part = heapq.heappop(load)
        parts[part].append(item)
        heapq.heappush(load, (cost + costs[item], number + 1, part))
    return parts
