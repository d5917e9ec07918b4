"""Which models are meant, their scores on candidates, and comparisons of them."""
