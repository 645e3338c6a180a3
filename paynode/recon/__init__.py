"""Reconciliation: what our books say against what can be known otherwise, and the way back when they differ."""
