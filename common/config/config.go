package config

// Dendrite is a whole configuration: dendrite-config.yaml has a section for
// each field. The sections of a component stand in its own file.
type Dendrite struct {
	Global       Global       `yaml:"global"`
	HTTP         HTTP         `yaml:"http"`
	Log          Log          `yaml:"log"`
	Metrics      Metrics      `yaml:"metrics"`
	Registration Registration `yaml:"registration"`
	RateLimiting RateLimiting `yaml:"rate_limiting"`
	EventLog     EventLog     `yaml:"event_log"`
	Database     Database     `yaml:"database"`
	Internal     Internal     `yaml:"internal"`
	RoomServer   RoomServer   `yaml:"room_server"`
	ClientAPI    ClientAPI    `yaml:"client_api"`
	UserAPI      UserAPI      `yaml:"user_api"`
	SyncAPI      SyncAPI      `yaml:"sync_api"`
	Directory    Directory    `yaml:"directory"`
	MediaAPI     MediaAPI     `yaml:"media_api"`
	Push         Push         `yaml:"push"`
	Search       Search       `yaml:"search"`
	Presence     Presence     `yaml:"presence"`
	Retention    Retention    `yaml:"retention"`
	Federation   Federation   `yaml:"federation"`
	Appservice   Appservice   `yaml:"appservice"`
}

// Default returns the configuration of a server that is told nothing. It lacks
// only a server name.
func Default() *Dendrite {
	c := &Dendrite{
		Global: Global{DataDir: "data"},
		HTTP: HTTP{
			Listen: "127.0.0.1:8008", TrustedProxies: []string{"127.0.0.0/8", "::1/128"},
			MaxBodyBytes: 1 << 20,
		},
		Log:          Log{Level: "info", Format: "text"},
		RateLimiting: defaultRates(),
		EventLog:     EventLog{Partitions: 16, Kafka: Kafka{TopicPrefix: "dendrite."}},
		MediaAPI:     defaultMedia(),
		Presence:     Presence{Enabled: true},
		Search:       Search{Enabled: true},
		Federation:   Federation{DenyRanges: privateRanges()},
	}
	c.fill()
	return c
}

// fill applies the defaults that depend on other options, and those that the
// components' sections have for what is zero.
func (c *Dendrite) fill() {
	c.Global.Defaults()
	c.HTTP.Defaults()
	c.EventLog.Kafka.Defaults()
	c.Database.Defaults()
	c.RoomServer.Defaults()
	c.ClientAPI.Defaults()
	c.UserAPI.Defaults()
	c.SyncAPI = c.SyncAPI.Defaults()
	c.Directory.Defaults()
	c.MediaAPI.Defaults()
	c.Push.Defaults()
	c.Search.Defaults()
	c.Retention.Defaults()
}
