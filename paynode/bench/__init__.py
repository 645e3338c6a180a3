"""Measuring a running paynode. Figures live here and in docs, never in a test."""
