"""Many images at full speed, and many pairs of them."""
