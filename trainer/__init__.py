"""Training, evaluation and reports on packs."""
