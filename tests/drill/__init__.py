"""The restore drill: a paynode that pays loses its PostgreSQL, and comes back from its backups. See docs/backups.md."""
