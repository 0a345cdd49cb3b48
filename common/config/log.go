package config

// Log is the section log.
type Log struct {
	// Level is the least severe level that is logged: error, warn, info, debug
	// or trace.
	Level string `yaml:"level"`
	// Format is text or json, one line for each entry.
	Format string `yaml:"format"`
}

// Metrics is the section metrics.
type Metrics struct {
	// Listen is where Prometheus fetches /metrics, "host:port"; "" serves none.
	// It has no access control: choose an address that strangers cannot reach.
	Listen string `yaml:"listen"`
}
