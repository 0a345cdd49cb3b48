-- +goose Up
-- News of a room, of which some may be purged.
CREATE INDEX news_room ON news (room_id, seq);

-- +goose Down
DROP INDEX news_room;
