"""One module per source of papers; each speaks its service's real protocol."""
