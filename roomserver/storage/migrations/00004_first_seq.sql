-- +goose Up
-- Seqs of a partition up to this one were given before the topics were
-- partitioned anew, and belong to rooms that may be in others now.
ALTER TABLE positions ADD COLUMN first_seq BIGINT NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE positions DROP COLUMN first_seq;
