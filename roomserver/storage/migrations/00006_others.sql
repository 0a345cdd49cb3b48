-- +goose NO TRANSACTION
-- +goose Up
-- Events that no timeline shows: rejected, soft-failed, outliers. As in
-- 00005_event_times.sql, the previous release goes on writing meanwhile.
DROP INDEX CONCURRENTLY IF EXISTS events_others;
CREATE INDEX CONCURRENTLY events_others ON events (room_nid, event_nid) WHERE flags <> 0;

-- +goose Down
DROP INDEX events_others;
