"""Models: where they are, how they are asked, and what steering needs to know of them."""
