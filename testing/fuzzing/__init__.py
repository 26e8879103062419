"""Fuzzing of every parser: real and made-up bodies are damaged in all ways, and each parser must answer."""
