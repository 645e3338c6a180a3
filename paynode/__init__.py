"""paynode: a payment coordinator for people who run Python."""

__version__ = "0.1.0"
