"""Estimates of a run's cost before it starts, from networks without weights."""
