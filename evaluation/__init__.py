"""What the maps are worth: rooms with ground truth, networks taught on purpose, and measures."""
