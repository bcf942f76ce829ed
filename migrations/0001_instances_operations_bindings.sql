-- The broker's wishes. Dialect-neutral (SQLite and PostgreSQL): times are milliseconds since 1970 in BIGINT, documents are
-- JSON in TEXT, sealed bytes are base64 in TEXT.

CREATE TABLE service_instances (
    id                TEXT   NOT NULL PRIMARY KEY,
    generation        BIGINT NOT NULL,              -- grows with every new wish for this id
    service_id        TEXT   NOT NULL,
    plan_id           TEXT   NOT NULL,
    organization_guid TEXT   NOT NULL,
    space_guid        TEXT   NOT NULL,
    parameters        TEXT   NOT NULL,              -- a JSON object
    context           TEXT   NOT NULL,              -- a JSON object
    certificate_name  TEXT   NOT NULL,              -- the name by which the agents of the deployment know each other
    created_at        BIGINT NOT NULL,
    deleted_at        BIGINT,                       -- a tombstone: last_operation still answers
    claimed_by        TEXT,                         -- the broker that works on this instance now
    claimed_until     BIGINT NOT NULL DEFAULT 0
);

-- Two ids that differ in case only would give two deployments whose agents obey each other.
CREATE UNIQUE INDEX certificate_name_is_unique ON service_instances (certificate_name) WHERE deleted_at IS NULL;

CREATE TABLE operations (
    id          TEXT   NOT NULL PRIMARY KEY,        -- what the platform polls with, and the director's context id
    instance_id TEXT   NOT NULL REFERENCES service_instances (id) ON DELETE CASCADE,
    number      BIGINT NOT NULL,                    -- order among the operations of the instance
    kind        TEXT   NOT NULL CHECK (kind IN ('create', 'delete')),
    state       TEXT   NOT NULL CHECK (state IN ('in progress', 'succeeded', 'failed')),
    description TEXT   NOT NULL CHECK (description <> ''),
    request_id  TEXT   NOT NULL,                    -- what joins the user's report with the log
    halts       TEXT   REFERENCES operations (id) ON DELETE CASCADE,  -- the creation that this deletion interrupted
    sent        TEXT   CHECK (sent IN ('deploy', 'run errand', 'delete deployment')),  -- recorded before it is sent
    sent_after  BIGINT NOT NULL DEFAULT 0,          -- the operation's newest task by then; a newer one is the answer
    started_at  BIGINT NOT NULL,
    due_at      BIGINT NOT NULL,
    deadline_at BIGINT NOT NULL,
    finished_at BIGINT,
    UNIQUE (instance_id, number)
);

CREATE UNIQUE INDEX one_operation_at_a_time ON operations (instance_id) WHERE state = 'in progress';
CREATE INDEX due_operations ON operations (due_at) WHERE state = 'in progress';

CREATE TABLE service_bindings (
    instance_id   TEXT   NOT NULL REFERENCES service_instances (id) ON DELETE CASCADE,
    id            TEXT   NOT NULL,
    service_id    TEXT   NOT NULL,
    plan_id       TEXT   NOT NULL,
    attributes    TEXT   NOT NULL,                  -- the rest of what must be equal in a repeated request, as JSON
    state         TEXT   NOT NULL CHECK (state IN ('creating', 'created', 'deleting')),
    sealed        TEXT   NOT NULL,                  -- the credentials, readable with the broker's key only
    claimed_until BIGINT NOT NULL,                  -- a request works on this binding until then
    created_at    BIGINT NOT NULL,
    PRIMARY KEY (instance_id, id)
);
