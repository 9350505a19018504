-- What agents are made of: nobody's in particular, so everybody may read it. Never changed, but for
-- the mark of the one that new instances get.
CREATE TABLE releases (
    id         uuid PRIMARY KEY,
    number     integer NOT NULL UNIQUE,
    image      text,
    settings   jsonb NOT NULL DEFAULT '{}',
    note       text NOT NULL DEFAULT '',
    newcomers  boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL
);
CREATE UNIQUE INDEX releases_newcomers ON releases ((true)) WHERE newcomers;

-- None: what the place is configured with.
ALTER TABLE instances ADD COLUMN release_id uuid REFERENCES releases (id);
-- Who goes first, by an operator's choice.
ALTER TABLE tenants ADD COLUMN rollout_group text NOT NULL DEFAULT ''
    CHECK (rollout_group IN ('canary', ''));

-- `waves` are shares in percent of all members, the first one for the group "canary" alone; `began`
-- says when each wave began. An aborted one ends when the last of those that it had moved is decided.
CREATE TABLE rollouts (
    id             uuid PRIMARY KEY,
    number         integer NOT NULL UNIQUE,
    release_id     uuid NOT NULL REFERENCES releases (id),
    state          text NOT NULL DEFAULT 'running' CHECK (state IN
                   ('running', 'paused', 'rolling_back', 'rolled_back', 'done', 'aborted')),
    reason         text,
    waves          jsonb NOT NULL,
    wave           integer NOT NULL DEFAULT 0,
    began          jsonb NOT NULL DEFAULT '[]',
    budget_percent integer NOT NULL,
    ready_within_s integer NOT NULL,
    watch_s        integer NOT NULL,
    at_once        integer NOT NULL,
    created_at     timestamptz NOT NULL,
    updated_at     timestamptz NOT NULL,
    ended_at       timestamptz
);
CREATE UNIQUE INDEX rollouts_one_at_a_time ON rollouts ((true)) WHERE ended_at IS NULL;

-- `mark` is an id of the moment of the move: rows with a greater one came after it.
CREATE TABLE rollout_members (
    rollout_id   uuid NOT NULL REFERENCES rollouts (id),
    instance_id  uuid NOT NULL,
    tenant_id    uuid NOT NULL,
    wave         integer NOT NULL,
    state        text NOT NULL DEFAULT 'waiting' CHECK (state IN
                 ('waiting', 'moved', 'good', 'failed', 'rolled_back')),
    reason       text,
    before_id    uuid REFERENCES releases (id),
    before_phase text,
    mark         uuid,
    moved_at     timestamptz,
    updated_at   timestamptz NOT NULL,
    PRIMARY KEY (rollout_id, instance_id),
    FOREIGN KEY (tenant_id, instance_id) REFERENCES instances (tenant_id, id)
);
CREATE INDEX rollout_members_state ON rollout_members (rollout_id, state, instance_id);

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['releases', 'rollouts', 'rollout_members'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format(
            'CREATE POLICY operator ON %I TO botyard_app '
            'USING ((SELECT speaks_as_operator())) WITH CHECK ((SELECT speaks_as_operator()))',
            name);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE ON %I TO botyard_app', name);
    END LOOP;
END $$;
-- A look at an instance speaks for its tenant, and must know what the agent is made of.
CREATE POLICY everybody ON releases FOR SELECT TO botyard_app USING (true);
