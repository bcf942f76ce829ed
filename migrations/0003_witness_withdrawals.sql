-- A leader's word that its follower has everything, when it comes late, must not count behind its withdrawal: they are numbered.

ALTER TABLE witness_records ADD COLUMN withdrawals BIGINT NOT NULL DEFAULT 0;
