"""The composition root: the only place that sees actors and adapters together.

One module for each kind of process. Its function reads downwards in the order of the start; everything stops upwards.
"""
