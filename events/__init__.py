"""What can be said: events, messages, keys, and the pure machines that fold them. No I/O, clock or thread."""
