"""What may be set: settings as typed records, their defaults, and where each value came from."""
