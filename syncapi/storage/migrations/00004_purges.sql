-- +goose Up

-- The Seq of the last record by which events of the room were purged; 0: none.
ALTER TABLE rooms ADD COLUMN purged BIGINT NOT NULL DEFAULT 0;

-- Where the event of a receipt stood that was purged: Seq, Sub and ID, as the event
-- may be another one by now; '' for others.
ALTER TABLE receipts ADD COLUMN place TEXT NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE receipts DROP COLUMN place;
ALTER TABLE rooms DROP COLUMN purged;
