"""Capsules on disk: a directory of directories that people can read with ls and cat."""
