"""The version of quire, for everything that says it."""

VERSION = "0.1.0"
