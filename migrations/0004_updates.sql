-- Updates of service instances. No CHECK can be changed in place in both dialects, so the table of the operations is made
-- anew, with what an update wants: the instance takes it over when the update has succeeded, not before.

CREATE TABLE operations_and_updates (
    id              TEXT    NOT NULL PRIMARY KEY,   -- what the platform polls with, and the director's context id
    instance_id     TEXT    NOT NULL REFERENCES service_instances (id) ON DELETE CASCADE,
    number          BIGINT  NOT NULL,               -- order among the operations of the instance
    kind            TEXT    NOT NULL CHECK (kind IN ('create', 'update', 'delete')),
    state           TEXT    NOT NULL CHECK (state IN ('in progress', 'succeeded', 'failed')),
    description     TEXT    NOT NULL CHECK (description <> ''),
    request_id      TEXT    NOT NULL,               -- what joins the user's report with the log
    halts           TEXT    REFERENCES operations_and_updates (id) ON DELETE CASCADE,  -- whose requests may be under way
    sent            TEXT    CHECK (sent IN ('deploy', 'run errand', 'delete deployment')),  -- recorded before it is sent
    sent_after      BIGINT  NOT NULL DEFAULT 0,     -- the operation's newest task by then; a newer one is the answer
    started_at      BIGINT  NOT NULL,
    due_at          BIGINT  NOT NULL,
    deadline_at     BIGINT  NOT NULL,
    finished_at     BIGINT,
    plan_id         TEXT,                           -- of an update: the plan that the instance gets
    parameters      TEXT,                           -- of an update: the parameters that it gets, a JSON object
    maintenance_version TEXT,                       -- of an update: the version of the plan that the instance gets
    keeps_leader    BIGINT  NOT NULL DEFAULT 0,     -- 1: a pair becomes one server, and its witness chooses no other leader
    instance_usable BIGINT,                         -- after a failed update, where it is known: 0 or 1
    UNIQUE (instance_id, number)
);

INSERT INTO operations_and_updates (id, instance_id, number, kind, state, description, request_id, halts, sent, sent_after,
    started_at, due_at, deadline_at, finished_at)
SELECT id, instance_id, number, kind, state, description, request_id, halts, sent, sent_after,
    started_at, due_at, deadline_at, finished_at
FROM operations;

DROP TABLE operations;
ALTER TABLE operations_and_updates RENAME TO operations;

CREATE UNIQUE INDEX one_operation_at_a_time ON operations (instance_id) WHERE state = 'in progress';
CREATE INDEX due_operations ON operations (due_at) WHERE state = 'in progress';

ALTER TABLE service_instances ADD COLUMN maintenance_version TEXT;     -- what the instance has; none: from before

-- What quotas count.
CREATE INDEX living_instances_by_plan ON service_instances (plan_id) WHERE deleted_at IS NULL;
CREATE INDEX unfulfilled_updates ON operations (instance_id) WHERE plan_id IS NOT NULL AND state <> 'succeeded';
