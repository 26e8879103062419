"""What a disk can do to a library: calls that fail, power that goes, room that ends."""
