"""The engine of a cached run, and that of a recorded one: straight lines over ports."""

from capsula.engine.job import HIT, MISS, PLACEBO, UNCACHED, Policy, Report, World
from capsula.engine.run import reason_of, run

__all__ = ["HIT", "MISS", "PLACEBO", "UNCACHED", "Policy", "Report", "World", "reason_of", "run"]
