"""How it is proved: a kit for tests, shipped to users."""
