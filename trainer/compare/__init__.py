"""Several methods, seeds and data sets side by side: planned in one TOML, trained, measured, set beside each other."""
