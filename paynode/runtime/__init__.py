"""Ways of running things: actors, groups, stopping. anyio only; knows no money."""
