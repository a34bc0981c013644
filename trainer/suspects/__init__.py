"""Suspected labels: training images whose label is contradicted by what the run remembers of them."""
