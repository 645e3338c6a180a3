"""Adapters: one module per PSP, all speaking the vocabulary of `paynode.domain.psp`."""
