-- +goose Up
-- Rooms that guests may not be in (any more) and that have not been looked at
-- for guests since; seq is that of the change that said so.
CREATE TABLE guest_rooms (
    room_id TEXT PRIMARY KEY,
    seq     BIGINT NOT NULL
);

-- +goose Down
DROP TABLE guest_rooms;
