-- Errands that a plan has of its own: which of them was sent last.

ALTER TABLE operations ADD COLUMN sent_errand BIGINT;   -- of `run errand`: its place among the plan's; the configuration where it is NULL
