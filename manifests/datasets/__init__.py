"""One module a dataset: what its release looks like and how its labels map to the harmonised findings."""
