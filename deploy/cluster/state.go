package main

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	mathrand "math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/matrix-org/dendrite/deploy"
)

// state is what cluster.json holds.
type state struct {
	ServerName string
	Proxy      deploy.ProxyAt
	Instances  []deploy.Instance
	// given are all addresses of these.
	given []string
}

// machine is a cluster with its processes.
type machine struct {
	dir      string
	state    state
	services *deploy.Services
	cluster  *deploy.Cluster
}

func newState(o *options) (s state, err error) {
	s.ServerName = cmp.Or(o.serverName, "localhost")
	if s.Proxy.HTTP, err = s.freeAddress(); err != nil {
		return s, err
	}
	if o.port != 0 {
		s.Proxy.HTTP = net.JoinHostPort("127.0.0.1", strconv.Itoa(o.port))
	}
	s.Proxy.TLS, err = s.freeAddress()
	return s, err
}

func (m *machine) file() string { return filepath.Join(m.dir, "cluster.json") }

func (m *machine) load() (known bool, err error) {
	text, err := os.ReadFile(m.file())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := json.Unmarshal(text, &m.state); err != nil {
		return false, fmt.Errorf("%s: %w", m.file(), err)
	}
	m.state.given = []string{m.state.Proxy.HTTP, m.state.Proxy.TLS}
	for _, i := range m.state.Instances {
		m.state.given = slices.AppendSeq(m.state.given, maps.Values(i.Addresses))
	}
	return true, nil
}

// grow adds the instances that are asked for, and remembers them.
func (m *machine) grow(o *options) error {
	for role := range o.scale {
		if !slices.Contains(m.services.Roles(), role) {
			return fmt.Errorf("%q is no role: %s", role, strings.Join(m.services.Roles(), ", "))
		}
	}
	for _, role := range m.services.Roles() {
		if err := m.services.Scale(m.cluster, role, max(o.instances, o.scale[role], 1), m.state.freeAddress); err != nil {
			return err
		}
	}
	m.state.Instances = m.cluster.Instances
	text, err := json.MarshalIndent(m.state, "", "\t")
	if err != nil {
		return err
	}
	// Processes of other users than ours (PostgreSQL refuses root) pass through it.
	if err := os.MkdirAll(m.dir, 0o711); err != nil {
		return err
	}
	return os.WriteFile(m.file(), text, 0o600)
}

// The ports that are given out: below those of outgoing connections, for they
// must be free at the next start too, and those that scripts/kafka and
// scripts/postgres choose from.
const (
	firstPort = 10000
	lastPort  = 19999
)

// freeAddress returns an address on loopback that is not one of the cluster's, and
// at which nobody listens.
func (s *state) freeAddress() (string, error) {
	var err error
	for range 1000 {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(firstPort+mathrand.IntN(lastPort-firstPort+1)))
		if slices.Contains(s.given, address) {
			continue
		}
		var l net.Listener
		if l, err = net.Listen("tcp", address); err == nil {
			s.given = append(s.given, address)
			return address, l.Close()
		}
	}
	return "", fmt.Errorf("no port is free: %w", err)
}

// prepare makes the secrets, as deploy/prepare does, and the folders of volumes.
func (m *machine) prepare() error {
	for _, dir := range []string{m.cluster.Secret(""), m.cluster.Volume("keys"), m.cluster.Volume("tls"), m.cluster.Volume("media")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	for _, name := range []string{"internal_secret", "registration_secret"} {
		if _, err := os.Stat(m.cluster.Secret(name)); err == nil {
			continue
		}
		secret := make([]byte, 24)
		if _, err := rand.Read(secret); err != nil {
			return err
		}
		if err := os.WriteFile(m.cluster.Secret(name), []byte(hex.EncodeToString(secret)), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// known checks names of processes.
func (m *machine) known(names []string) error {
	for _, name := range names {
		if len(m.choose([]string{name})) == 0 {
			return fmt.Errorf("%s has no %q", m.dir, name)
		}
	}
	return nil
}

// choose returns the names of processes, in the order of a start: those given,
// where a role stands for its instances; all for none.
func (m *machine) choose(names []string) []string {
	var chosen []string
	take := func(name, role string) {
		if len(names) == 0 || slices.Contains(names, name) || slices.Contains(names, role) {
			chosen = append(chosen, name)
		}
	}
	take(deploy.Postgres, "")
	take(deploy.Kafka, "")
	for _, i := range m.cluster.Instances {
		take(i.Name, i.Role)
	}
	take(deploy.Proxy, "")
	return chosen
}

func (m *machine) instance(name string) (deploy.Instance, bool) {
	i := slices.IndexFunc(m.cluster.Instances, func(i deploy.Instance) bool { return i.Name == name })
	if i < 0 {
		return deploy.Instance{}, false
	}
	return m.cluster.Instances[i], true
}
