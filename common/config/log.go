package config

// Log is the section log.
type Log struct {
	// Level is the least severe level that is logged: error, warn, info, debug
	// or trace.
	Level string `yaml:"level"`
	// Format is text or json, one line for each entry.
	Format string `yaml:"format"`
}

// Metrics is the section metrics: what is served to those who run the server.
type Metrics struct {
	// Listen is the address, "host:port", of /metrics for Prometheus, /live and
	// /ready; "" serves none. It has no access control: choose one that strangers
	// cannot reach.
	Listen string `yaml:"listen"`
	// Profiles serves pprof's profiles there too, below /debug/pprof/.
	Profiles bool `yaml:"profiles"`
}
