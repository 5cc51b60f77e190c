"""Capsula: put any command into a capsule — recorded, cached, isolated, reproducible."""

__version__ = "0.1.0"
