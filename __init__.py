"""quire brings home open-access papers and keeps an account of how it got each of them."""

__version__ = "0.1.0"
