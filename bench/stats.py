"""Order statistics on small lists, and percentiles of a latency sample."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

PERCENTILES = (50.0, 90.0, 99.0, 99.9)
HIGHEST_NS = 60 * 1_000_000_000


def median(values: Sequence[float]) -> float | None:
    """The median, or None of nothing."""
    return statistics.median(values) if values else None


def number(value: float | None) -> str:
    """A value with about three significant digits, thousands apart."""
    if value is None:
        return "-"
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.3g}"


def spread(values: Sequence[float]) -> str:
    """``median [min..max]`` of a sample, one number if all are the same."""
    if not values:
        return "-"
    if min(values) == max(values):
        return number(values[0])
    return f"{number(median(values))} [{number(min(values))}..{number(max(values))}]"


def percentile_key(percent: float) -> str:
    """The field name of a percentile: 99.9 is ``p99.9``."""
    return f"p{percent:g}"


def exact_percentiles(sample: Sequence[int]) -> dict[str, float]:
    """Nearest-rank percentiles of a sorted copy, in the unit of the sample."""
    ordered = sorted(sample)
    last = len(ordered) - 1
    return {percentile_key(p): float(ordered[min(last, int(len(ordered) * p / 100))]) for p in PERCENTILES}


def latency(sample_ns: Sequence[int]) -> dict[str, Any]:
    """Percentiles of round trips in microseconds; the name of the method that counted them."""
    try:
        from hdrh.histogram import HdrHistogram
    except ImportError:
        values, method = exact_percentiles(sample_ns), "sorted list"
    else:
        histogram = HdrHistogram(1, HIGHEST_NS, 3)
        for value in sample_ns:
            histogram.record_value(max(1, value))
        values = {percentile_key(p): float(histogram.get_value_at_percentile(p)) for p in PERCENTILES}
        method = "hdrhistogram"
    result: dict[str, Any] = {key: value / 1000 for key, value in values.items()}
    result.update(max=max(sample_ns) / 1000, unit="us", histogram=method, n=len(sample_ns))
    return result
