"""Demonstration data, benchmarks and checks that look on; nothing imports them."""
