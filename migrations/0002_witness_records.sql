-- What the broker, the third voter of every pair, must not forget: see agent/src/quorum.rs. The row comes with the first
-- answer that changes the record and goes with the instance.

CREATE TABLE witness_records (
    instance_id TEXT    NOT NULL PRIMARY KEY REFERENCES service_instances (id) ON DELETE CASCADE,
    epoch       BIGINT  NOT NULL,                   -- the highest that it has agreed to
    leader      TEXT,                               -- whose it is, as group/id
    lease_ms    BIGINT  NOT NULL,                   -- the longest lease that may run
    in_sync     BOOLEAN NOT NULL,
    is_vacant   BOOLEAN NOT NULL
);
