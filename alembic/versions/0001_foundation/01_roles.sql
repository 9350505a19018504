-- botyard_app: what the application may do; login roles are made members of it.
-- botyard_search: owns the search functions, which filter by tenant themselves, because the
-- operators they need are not leakproof and would never use an index under row-level security.
-- botyard_upkeep: owns the function that removes what has served its time, across all tenants.
DO $$
DECLARE
    role_name text;
BEGIN
    FOREACH role_name IN ARRAY ARRAY['botyard_app', 'botyard_search', 'botyard_upkeep'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role_name) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', role_name);
        END IF;
    END LOOP;
END $$;
GRANT botyard_search, botyard_upkeep TO CURRENT_USER;
GRANT USAGE, CREATE ON SCHEMA public TO botyard_search, botyard_upkeep;
GRANT USAGE ON SCHEMA public TO botyard_app;
CREATE EXTENSION IF NOT EXISTS btree_gin;

-- Who this transaction speaks for: SET LOCAL settings, empty means nobody.
CREATE FUNCTION current_tenants() RETURNS uuid[] LANGUAGE sql STABLE PARALLEL SAFE AS
$$ SELECT string_to_array(nullif(current_setting('botyard.tenants', true), ''), ',')::uuid[] $$;
CREATE FUNCTION current_identity() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE AS
$$ SELECT nullif(current_setting('botyard.identity', true), '')::uuid $$;
CREATE FUNCTION speaks_as_operator() RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE AS
$$ SELECT coalesce(current_setting('botyard.operator', true), '') = 'on' $$;
