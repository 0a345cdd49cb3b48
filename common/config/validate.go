package config

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"reflect"
	"slices"
	"strconv"
	"time"

	"github.com/matrix-org/dendrite/gomatrixserverlib"
)

// maxPartitions bounds event_log.partitions: each costs memory in every role.
const maxPartitions = 1024

// minSecretBytes is how long the shared secret must be: it makes administrators.
const minSecretBytes = 16

// problems collects what is wrong with a configuration.
type problems []error

func (p *problems) add(path, format string, args ...any) {
	*p = append(*p, fmt.Errorf("%s: %s", path, fmt.Sprintf(format, args...)))
}

// Validate checks a whole configuration and returns all that is wrong with it.
// It looks at files, but opens no connection.
func (c *Dendrite) Validate() error {
	var p problems
	c.Global.validate(&p)
	c.HTTP.validate(&p)
	if !slices.Contains([]string{"error", "warn", "info", "debug", "trace"}, c.Log.Level) {
		p.add("log.level", "%q is not error, warn, info, debug or trace", c.Log.Level)
	}
	if c.Log.Format != "text" && c.Log.Format != "json" {
		p.add("log.format", "%q is neither text nor json", c.Log.Format)
	}
	if c.Metrics.Listen != "" {
		p.address("metrics.listen", c.Metrics.Listen)
	}
	c.Registration.validate(&p)
	for name, r := range c.RateLimiting.Buckets() {
		if r.PerSecond > 0 && r.Burst < 1 {
			p.add("rate_limiting."+name+".burst", "is less than 1")
		}
	}
	if r := c.RateLimiting.WrongPasswords(); r.PerSecond > 0 && r.Burst < 1 {
		p.add("rate_limiting.wrong_password.burst", "is less than 1")
	}
	if n := c.EventLog.Partitions; n < 1 || n > maxPartitions {
		p.add("event_log.partitions", "%d is not 1 to %d", n, maxPartitions)
	}
	c.EventLog.Kafka.validate(&p)
	c.Database.validate(&p)
	c.Internal.validate(&p)
	c.MediaAPI.validate(&p)
	c.Push.validate(&p)
	c.Retention.validate(&p)
	p.ranges("federation.deny_ranges", c.Federation.DenyRanges)
	for _, file := range c.Appservice.ConfigFiles {
		p.file("appservice.config_files", file)
	}
	if v := c.ClientAPI.DefaultRoomVersion; v != "" && gomatrixserverlib.RoomVersion(v).Rules() == nil {
		p.add("client_api.default_room_version", "the version %q is not known", v)
	}
	c.ClientAPI.Calls.validate(&p)
	c.ClientAPI.DelayedEvents.validate(&p)
	return errors.Join(p...)
}

func (c *Global) validate(p *problems) {
	switch {
	case c.ServerName == "":
		p.add("global.server_name", "is needed")
	case !gomatrixserverlib.ValidServerName(c.ServerName):
		p.add("global.server_name", "%q is not a server name", c.ServerName)
	}
	if c.DataDir == "" {
		p.add("global.data_dir", "is needed")
	}
	if name := c.WellKnownServerName; name != "" && !gomatrixserverlib.ValidServerName(name) {
		p.add("global.well_known_server_name", "%q is not a server name", name)
	}
	p.url("global.well_known_client_base_url", c.WellKnownClientBaseURL)
	p.url("global.support.page", c.Support.Page)
	if key := c.PolicyServerKey; key != "" {
		if raw, err := base64.RawStdEncoding.DecodeString(key); err != nil || len(raw) != ed25519.PublicKeySize {
			p.add("global.policy_server_key", "%q is not an ed25519 key in unpadded base64", key)
		}
	}
	if id := c.Support.MatrixID; id != "" {
		if _, _, err := gomatrixserverlib.ParseUserID(id); err != nil {
			p.add("global.support.matrix_id", "%q is not a user ID", id)
		}
	}
}

func (c *HTTP) validate(p *problems) {
	p.address("http.listen", c.Listen)
	if (c.TLSCert == "") != (c.TLSKey == "") {
		p.add("http.tls_cert", "tls_cert and tls_key need each other")
	}
	if c.FederationListen != "" {
		p.address("http.federation_listen", c.FederationListen)
		if c.TLSCert == "" {
			p.add("http.federation_listen", "needs tls_cert and tls_key")
		}
	}
	for path, file := range map[string]string{"http.tls_cert": c.TLSCert, "http.tls_key": c.TLSKey} {
		if file != "" {
			p.file(path, file)
		}
	}
	p.ranges("http.trusted_proxies", c.TrustedProxies)
	if c.MaxBodyBytes < 64<<10 {
		p.add("http.max_body_bytes", "is less than 65536, the size of an event")
	}
}

func (c *Registration) validate(p *problems) {
	if n := len(c.SharedSecret); n > 0 && n < minSecretBytes {
		p.add("registration.shared_secret", "is shorter than %d bytes", minSecretBytes)
	}
	seen := map[[2]string]bool{}
	for _, t := range c.Terms {
		if t.ID == "" || t.Version == "" || t.Language == "" || t.Name == "" || t.URL == "" {
			p.add("registration.terms", "each needs id, version, language, name and url")
		}
		if key := [2]string{t.ID, t.Language}; seen[key] {
			p.add("registration.terms", "%s in %s is given twice", t.ID, t.Language)
		} else {
			seen[key] = true
		}
		p.url("registration.terms", t.URL)
	}
}

func (p *problems) address(path, address string) {
	_, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		p.add(path, "%q is not host:port", address)
	}
}

func (p *problems) url(path, text string) {
	if text == "" {
		return
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") {
		p.add(path, "%q is not an http or https URL", text)
	}
}

func (p *problems) ranges(path string, list []string) {
	for _, s := range list {
		if _, err := parseRange(s); err != nil {
			p.add(path, "%q is neither an address nor a range like 10.0.0.0/8", s)
		}
	}
}

func (p *problems) file(path, file string) {
	info, err := os.Stat(file)
	switch {
	case err != nil:
		p.add(path, "%v", err)
	case info.IsDir():
		p.add(path, "%s is a folder", file)
	}
}

// notNegative refuses numbers and times below zero: no option has a use for them.
func (c *Dendrite) notNegative() error {
	var p problems
	for _, o := range options(c) {
		switch v := o.value; v.Kind() {
		case reflect.Int, reflect.Int32, reflect.Int64:
			if v.Int() < 0 {
				if v.Type() == reflect.TypeFor[time.Duration]() {
					p.add(o.path, "is a time before now")
					continue
				}
				p.add(o.path, "is less than zero")
			}
		case reflect.Float64:
			if !(v.Float() >= 0) {
				p.add(o.path, "is less than zero")
			}
		}
	}
	return errors.Join(p...)
}
