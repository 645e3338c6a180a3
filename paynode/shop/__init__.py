"""A demo shop: one product, paid through paynode as any merchant would. A program of its own."""
