package config

// RoomServer is the section room_server.
type RoomServer struct{}
