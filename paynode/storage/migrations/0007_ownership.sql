-- migrate:up

-- When the server began whose session this is: a missing session says nothing after a restart, a crash or a failover,
-- all of which end every session, and every one of which another server (or another start of it) came out of.
ALTER TABLE partitions ADD COLUMN backend_server timestamptz;

-- A worker lives while its presence session does, and no longer than `alive_until`.
ALTER TABLE workers ADD COLUMN backend_pid integer;
ALTER TABLE workers ADD COLUMN backend_start timestamptz;
ALTER TABLE workers ADD COLUMN backend_server timestamptz;

-- After a backend has crashed the server begins anew under the same postmaster and ends all sessions; its start time
-- stays, but the statistics begin anew too (tried). Whoever resets them by hand makes all present sessions tell nothing
-- until they are stamped again, which their owners do in every round.
CREATE FUNCTION server_began() RETURNS timestamptz LANGUAGE sql STABLE AS $$
    SELECT greatest(pg_postmaster_start_time(), (SELECT stats_reset FROM pg_stat_bgwriter))
$$;

-- What a worker stamps on its own row and on its partitions.
CREATE FUNCTION this_session(OUT pid integer, OUT began timestamptz, OUT server timestamptz) LANGUAGE sql STABLE AS $$
    SELECT a.pid, a.backend_start, server_began() FROM pg_stat_get_activity(pg_backend_pid()) AS a
$$;

-- Whether a session that this server gave has ended. Where nobody can tell it has not: nothing was stamped, the server
-- is another one, or the pid is now a session of another role, of which we see no start. With its caller's rights, for
-- all workers log in as one role, and a role sees its own sessions; the owner of the schema, if it is no superuser, does
-- not see theirs.
CREATE FUNCTION session_is_gone(pid integer, began timestamptz, server timestamptz) RETURNS boolean
LANGUAGE sql STABLE STRICT AS $$
    SELECT server = server_began() AND NOT EXISTS (
        SELECT FROM pg_stat_get_activity(pid) AS a
        WHERE a.backend_start = began OR a.backend_start IS NULL
    )
$$;
