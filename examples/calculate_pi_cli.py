"""A command that calculates pi and draws how.

capsula monitor -i calculate-pi-cli python calculate_pi_cli.py
"""

import argparse
from pathlib import Path

from calculate_pi import estimates, plot, throw

parser = argparse.ArgumentParser(description="Calculates pi by throwing darts.")
parser.add_argument("-n", type=int, default=1_000_000, help="how many")
parser.add_argument("--seed", type=int, help="of the random numbers")
asked = parser.parse_args()

points = throw(asked.n, asked.seed)
print(estimates(points)[-1])
plot(points, Path(__file__).parent / "pi_cli.png")
