package gomatrixserverlib

// RoomVersion names a room version: "1" to "12".
type RoomVersion string
