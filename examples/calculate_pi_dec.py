"""A function that calculates pi and draws how; every call of it is recorded.

python calculate_pi_dec.py
"""

from pathlib import Path

import capsula
from calculate_pi import estimates, plot, throw

HERE = Path(__file__).parent


@capsula.monitor(directory=HERE, items=("calculate-pi-dec",), include_return_value=True)
def main(n: int, seed: int | None = None) -> float:
    """Calculate pi by throwing `n` darts, and draw them."""
    points = throw(n, seed)
    plot(points, HERE / "pi_dec.png")
    return float(estimates(points)[-1])


if __name__ == "__main__":
    print(main(1_000_000))
