-- +goose NO TRANSACTION
-- +goose Up
-- Timeline events by time, for the one closest to a moment. It is made without
-- keeping the previous release from writing; one of an attempt that was broken
-- off is of no use.
DROP INDEX CONCURRENTLY IF EXISTS events_time;
CREATE INDEX CONCURRENTLY events_time ON events (room_nid, ts, seq, sub) WHERE flags = 0 AND seq > 0;

-- +goose Down
DROP INDEX events_time;
