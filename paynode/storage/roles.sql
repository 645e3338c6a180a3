-- name: list_roles
-- Whether a role exists, may log in, and has not been given what would lift it above the grants.
SELECT
    rolname AS login,
    rolcanlogin AS may_log_in,
    rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls AS is_privileged
FROM pg_roles
WHERE rolname = ANY($1::text[]);

-- name: quote_database
-- GRANT takes a name, not a parameter.
SELECT quote_ident(current_database());

-- name: list_creators
-- Asked, not assumed: REVOKE by somebody who does not own the schema is a warning and changes nothing.
SELECT rolname FROM pg_roles
WHERE rolname = ANY($1::text[]) AND has_schema_privilege(oid, 'public', 'CREATE');
