"""What a recipe costs in quality, measured and reported."""
