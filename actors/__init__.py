"""Who does it: the runtime and the actors that plan, lease, resolve and finalise jobs."""
