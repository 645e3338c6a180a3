"""A second, simpler implementation of the books, and the histories in which both must agree."""
