-- +goose Up
-- The output that told of a row of out_of_room, which stays when the invite or
-- knock ends: its stripped state is empty then. 0 in rows that were written
-- before; these are not listed.
ALTER TABLE out_of_room ADD COLUMN output_nid BIGINT NOT NULL DEFAULT 0;
CREATE INDEX out_of_room_output ON out_of_room (output_nid);

-- +goose Down
DROP INDEX out_of_room_output;
ALTER TABLE out_of_room DROP COLUMN output_nid;
