"""Pi by throwing darts: the share that falls into the quarter of a circle is pi / 4."""

from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("agg")  # no screen is needed
from matplotlib import pyplot


def throw(count: int, seed: int | None) -> np.ndarray:
    """`count` points of the unit square, one a row."""
    return np.random.default_rng(seed).random((count, 2))


def estimates(points: np.ndarray) -> np.ndarray:
    """What pi is thought to be after each of the points."""
    hits = (points**2).sum(axis=1) <= 1
    return 4 * np.cumsum(hits) / np.arange(1, len(points) + 1)


def plot(points: np.ndarray, path: Path) -> None:
    """The darts, and how the estimate comes near to pi."""
    inside = (points**2).sum(axis=1) <= 1
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 5), layout="constrained")
    shown = slice(0, 5000)
    left.scatter(*points[shown].T, c=np.where(inside[shown], "tab:blue", "tab:orange"), s=2)
    left.set(aspect="equal", title=f"the first {len(points[shown])} of {len(points)} darts")
    right.semilogx(np.arange(1, len(points) + 1), estimates(points))
    right.axhline(np.pi, color="black", linewidth=0.8, linestyle="dashed")
    right.set(title="the estimate after each", ylim=(2.8, 3.5))
    figure.savefig(path, dpi=100, metadata={"Software": None})
    pyplot.close(figure)
