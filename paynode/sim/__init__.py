"""A PSP to test against: it charges, forgets nothing, and misbehaves on request.

A program of its own that knows nothing of paynode and shares no code with the adapter: it is the judge. Its
one truth is the charge book; `scripts` lists the tokens and amounts that make it misbehave, `faults` the rates.
"""
