"""Networks that training can choose from."""
