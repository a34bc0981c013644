"""Measuring a run: predictions, metrics, intervals, and paired tests between runs."""
