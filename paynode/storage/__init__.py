"""PostgreSQL, the truth: each store is a module of functions, and its statements stand in the `.sql` file beside it."""
