"""The fraud check: an HTTP service outside of paynode, behind guards of its own. It decides nothing about money."""
