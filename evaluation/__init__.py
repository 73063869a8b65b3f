"""What the maps are worth, measured with ground truth: python -m evaluation"""
