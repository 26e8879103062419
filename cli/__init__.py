"""How people use it: one module per command group."""
