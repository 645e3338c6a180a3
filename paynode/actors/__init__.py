"""Who does what: merchants' actors and their committer, the gateway's actors, the relay."""
