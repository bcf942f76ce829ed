-- Several brokers may share one PostgreSQL: a claim on a binding has an owner, and so has the voter of a pair.

ALTER TABLE service_bindings ADD COLUMN claimed_by TEXT;                    -- the broker whose request works on it
UPDATE service_bindings SET claimed_until = 0;                              -- no request survives the program before this
ALTER TABLE witness_records ADD COLUMN holder TEXT NOT NULL DEFAULT '';     -- the run of a broker that speaks for the voter
