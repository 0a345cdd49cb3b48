package config

import (
	"math"
	"net/url"
	"slices"
	"strings"
	"time"
)

// EventLog is the section event_log: the log that everything goes through.
type EventLog struct {
	// Partitions of the topics that hold rooms, 1 to 1024. Once there is data,
	// dendrite-admin repartition changes it.
	Partitions int `yaml:"partitions"`
	// Kafka is the log where it has brokers; else it is a file in global.data_dir,
	// which one process has for itself.
	Kafka Kafka `yaml:"kafka"`
}

// Kafka is the section event_log.kafka.
type Kafka struct {
	// Brokers to begin with, host:port; none means the embedded log.
	Brokers []string `yaml:"brokers"`
	// TopicPrefix stands before the names of the topics, so that several
	// installations can share a cluster.
	TopicPrefix string `yaml:"topic_prefix"`
	// ReplicationFactor of topics that are made; zero means the brokers' default.
	ReplicationFactor int `yaml:"replication_factor"`
	// AppendTimeout is how long an append waits for brokers that are away before
	// the request is answered 503; zero means 10s.
	AppendTimeout time.Duration `yaml:"append_timeout"`
	// TLS encrypts connections to the brokers.
	TLS bool `yaml:"tls"`
	// TLSCA is a PEM file of authorities; "" means the system's.
	TLSCA string `yaml:"tls_ca"`
	// TLSCert and TLSKey are PEM files of a client certificate; "" for none.
	TLSCert string `yaml:"tls_cert"`
	// TLSKey is the key of TLSCert.
	TLSKey string `yaml:"tls_key"`
	// SASLMechanism is PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512; "" for no log-in.
	SASLMechanism string `yaml:"sasl_mechanism"`
	// SASLUsername to log in with.
	SASLUsername string `yaml:"sasl_username"`
	// SASLPassword to log in with.
	SASLPassword string `yaml:"sasl_password"`
	// SASLPasswordFile holds SASLPassword.
	SASLPasswordFile string `yaml:"sasl_password_file"`
}

// Defaults fills in what was left out.
func (c *Kafka) Defaults() {
	if c.AppendTimeout == 0 {
		c.AppendTimeout = 10 * time.Second
	}
}

func (c *Kafka) validate(p *problems) {
	for _, broker := range c.Brokers {
		p.address("event_log.kafka.brokers", broker)
	}
	if strings.Trim(c.TopicPrefix, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") != "" {
		p.add("event_log.kafka.topic_prefix", "%q has more than letters, digits, dots, dashes and underscores", c.TopicPrefix)
	}
	if c.ReplicationFactor > math.MaxInt16 {
		p.add("event_log.kafka.replication_factor", "is more than %d", math.MaxInt16)
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		p.add("event_log.kafka.tls_cert", "tls_cert and tls_key need each other")
	}
	for path, file := range map[string]string{"tls_ca": c.TLSCA, "tls_cert": c.TLSCert, "tls_key": c.TLSKey} {
		if file == "" {
			continue
		}
		p.file("event_log.kafka."+path, file)
		if !c.TLS {
			p.add("event_log.kafka."+path, "needs event_log.kafka.tls")
		}
	}
	switch {
	case c.SASLMechanism == "":
	case !slices.Contains([]string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"}, c.SASLMechanism):
		p.add("event_log.kafka.sasl_mechanism", "%q is not PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512", c.SASLMechanism)
	case c.SASLUsername == "" || c.SASLPassword == "":
		p.add("event_log.kafka.sasl_mechanism", "needs sasl_username and sasl_password")
	}
}

// Database is the section database: where the components' stores are. Each has
// one of its own: a SQLite file in global.data_dir, or a schema or a database
// on PostgreSQL.
type Database struct {
	// Connections bounds the reading connections of each database; zero means 4
	// for SQLite, 16 for PostgreSQL, where they are all there are.
	Connections int `yaml:"connections"`
	// CacheBytes bounds the page cache of each connection to SQLite; zero means
	// 8 MiB.
	CacheBytes int64 `yaml:"cache_bytes"`
	// URL of a PostgreSQL database (postgres://…) in which each store is a schema
	// named after it; "" means SQLite.
	URL string `yaml:"url"`
	// URLFile holds URL.
	URLFile string `yaml:"url_file"`
	// RoomServerURL and its like are databases of their own for single stores.
	RoomServerURL string `yaml:"room_server_url"`
	// RoomServerURLFile holds RoomServerURL.
	RoomServerURLFile string `yaml:"room_server_url_file"`
	// UserAPIURL is the user-api's.
	UserAPIURL string `yaml:"user_api_url"`
	// UserAPIURLFile holds UserAPIURL.
	UserAPIURLFile string `yaml:"user_api_url_file"`
	// DirectoryAPIURL is the directory-api's.
	DirectoryAPIURL string `yaml:"directory_api_url"`
	// DirectoryAPIURLFile holds DirectoryAPIURL.
	DirectoryAPIURLFile string `yaml:"directory_api_url_file"`
	// SyncAPIURL is the sync-api's.
	SyncAPIURL string `yaml:"sync_api_url"`
	// SyncAPIURLFile holds SyncAPIURL.
	SyncAPIURLFile string `yaml:"sync_api_url_file"`
	// MediaAPIURL is the media-api's.
	MediaAPIURL string `yaml:"media_api_url"`
	// MediaAPIURLFile holds MediaAPIURL.
	MediaAPIURLFile string `yaml:"media_api_url_file"`
	// PushServerURL is the push-server's.
	PushServerURL string `yaml:"push_server_url"`
	// PushServerURLFile holds PushServerURL.
	PushServerURLFile string `yaml:"push_server_url_file"`
	// SearchServerURL is the search-server's.
	SearchServerURL string `yaml:"search_server_url"`
	// SearchServerURLFile holds SearchServerURL.
	SearchServerURLFile string `yaml:"search_server_url_file"`
}

// StoreURL returns where a store is, of those named roomserver, userapi,
// directoryapi, syncapi, mediaapi, pushapi and searchapi; "" for a SQLite file.
func (c *Database) StoreURL(store string) string {
	own := map[string]string{
		"roomserver": c.RoomServerURL, "userapi": c.UserAPIURL, "directoryapi": c.DirectoryAPIURL, "syncapi": c.SyncAPIURL, "mediaapi": c.MediaAPIURL,
		"pushapi": c.PushServerURL, "searchapi": c.SearchServerURL,
	}[store]
	if own != "" {
		return own
	}
	return c.URL
}

// Defaults fills in what was left out.
func (c *Database) Defaults() {
	if c.CacheBytes == 0 {
		c.CacheBytes = 8 << 20
	}
}

func (c *Database) validate(p *problems) {
	for path, text := range map[string]string{
		"url": c.URL, "room_server_url": c.RoomServerURL, "user_api_url": c.UserAPIURL, "directory_api_url": c.DirectoryAPIURL, "sync_api_url": c.SyncAPIURL, "media_api_url": c.MediaAPIURL,
		"push_server_url": c.PushServerURL, "search_server_url": c.SearchServerURL,
	} {
		if text == "" {
			continue
		}
		if u, err := url.Parse(text); err != nil || u.Host == "" || u.Scheme != "postgres" && u.Scheme != "postgresql" {
			p.add("database."+path, "is not a postgres:// URL") // it may hold a password, so it is not shown
		}
	}
}
