"""For all tests: no example has a time limit of its own; a busy machine is slow, not wrong."""

from hypothesis import HealthCheck, settings

settings.register_profile("capsula", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("capsula")
