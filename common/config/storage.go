package config

// EventLog is the section event_log: the log that everything goes through.
type EventLog struct {
	// Partitions of the topics that hold rooms, 1 to 1024. It cannot be changed
	// once there is data.
	Partitions int `yaml:"partitions"`
}

// Database is the section database. Each component has a database of its own,
// a SQLite file in global.data_dir.
type Database struct {
	// Connections bounds the reading connections of each database; zero means 4.
	Connections int `yaml:"connections"`
	// CacheBytes bounds the page cache of each connection; zero means 8 MiB.
	CacheBytes int64 `yaml:"cache_bytes"`
}

// Defaults fills in what was left out.
func (c *Database) Defaults() {
	if c.Connections == 0 {
		c.Connections = 4
	}
	if c.CacheBytes == 0 {
		c.CacheBytes = 8 << 20
	}
}
