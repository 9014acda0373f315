"""Clusters within groups, by Ward's method (Ward, 1963): again and again the two whose union costs least are joined."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

MOST_CLUSTERS = 1023


def clustered(contexts: Sequence[tuple[str, str] | None], values: NDArray[np.float32]) -> dict[str, int]:
    """Codes from 1, by "group|member", for at most MOST_CLUSTERS clusters of members that change their group alike.

    contexts: group and member of each row, None for a row that counts nowhere.  values: [rows, dimensions].
    """
    rows: dict[tuple[str, str], list[int]] = defaultdict(list)
    for row, context in enumerate(contexts):
        if context is not None:
            rows[context].append(row)
    clusters = {key: (len(at), values[at].mean(0), [key]) for key, at in sorted(rows.items())}
    groups: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for key in clusters:
        groups[key[0]].append(key)
    version = dict.fromkeys(clusters, 0)

    def entry(one: tuple[str, str], other: tuple[str, str]) -> tuple[float, tuple[str, str], tuple[str, str], int, int]:
        (a, first, _), (b, second, _) = clusters[one], clusters[other]
        cost = a * b / (a + b) * float(((first - second) ** 2).sum())
        return cost, one, other, version[one], version[other]

    heap = [entry(one, other) for keys in groups.values() for at, one in enumerate(keys) for other in keys[:at]]
    heapq.heapify(heap)
    while len(clusters) > MOST_CLUSTERS:
        _, one, other, *versions = heapq.heappop(heap)
        if one not in clusters or other not in clusters or versions != [version[one], version[other]]:
            continue
        (a, first, kept), (b, second, gone) = clusters[one], clusters.pop(other)
        clusters[one] = (a + b, (a * first + b * second) / (a + b), kept + gone)
        version[one] += 1
        for key in groups[one[0]]:
            if key != one and key in clusters:
                heapq.heappush(heap, entry(one, key))
    return {"|".join(member): code for code, (_, _, members) in enumerate(clusters.values(), 1) for member in members}
