package deploy

import (
	"fmt"
	"maps"
	"net"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Cluster is a cluster on this machine, without containers.
type Cluster struct {
	// Dir holds all of its state.
	Dir string
	// Bin holds the binaries.
	Bin string
	// Brokers are those of Kafka, host:port.
	Brokers []string
	// Instances of all roles.
	Instances []Instance
}

// Instance is one process of a role.
type Instance struct {
	// Name is the role's, with a number.
	Name string
	Role string
	// Addresses are where it listens, by the port of dendrite.yaml.
	Addresses map[string]string
}

// Command is how a process is started.
type Command struct {
	Program     string
	Arguments   []string
	Environment []string
}

// Scale makes what is missing of n instances of a role, each with its own
// addresses, which free returns.
func (s *Services) Scale(c *Cluster, role string, n int, free func() (string, error)) error {
	if !slices.Contains(s.Roles(), role) {
		return fmt.Errorf("docker-compose.yml has no role %q", role)
	}
	for i := len(c.of(role)) + 1; i <= n; i++ {
		instance := Instance{Name: fmt.Sprintf("%s-%d", role, i), Role: role, Addresses: map[string]string{}}
		for _, port := range s.ports() {
			address, err := free()
			if err != nil {
				return err
			}
			instance.Addresses[port] = address
		}
		c.Instances = append(c.Instances, instance)
	}
	return nil
}

func (c *Cluster) of(role string) []Instance {
	var all []Instance
	for _, i := range c.Instances {
		if i.Role == role {
			all = append(all, i)
		}
	}
	return all
}

// Command returns how an instance of a role is started.
func (s *Services) Command(c *Cluster, i Instance) *Command {
	command := s.command(c, i.Role, filepath.Join(c.Dir, i.Name))
	for _, o := range s.settings {
		var values []string
		for _, value := range o.values {
			values = append(values, s.here(c, i, value)...)
		}
		if !slices.Equal(values, o.values) {
			command.Environment = append(command.Environment, o.variable+"="+strings.Join(values, ","))
		}
	}
	return command
}

// MakeKeys returns how the cluster's keys are made, before anything starts. What
// is there is kept.
func (s *Services) MakeKeys(c *Cluster) *Command {
	return s.command(c, Keys, filepath.Join(c.Dir, Keys))
}

// command returns what a service's containers would run. scratch stands for
// the file system of a container.
func (s *Services) command(c *Cluster, service, scratch string) *Command {
	configured := s.project.Services[service]
	command := &Command{Program: filepath.Join(c.Bin, path.Base(configured.Entrypoint[0]))}
	for _, argument := range configured.Entrypoint[1:] {
		flag, value, given := strings.Cut(argument, "=")
		if given {
			command.Arguments = append(command.Arguments, flag+"="+s.file(c, service, scratch, value))
		} else {
			command.Arguments = append(command.Arguments, s.file(c, service, scratch, argument))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(configured.Environment)) {
		if value := configured.Environment[name]; value != nil {
			command.Environment = append(command.Environment, name+"="+*value)
		}
	}
	return command
}

// here returns what stands on this machine for a value of dendrite.yaml.
func (s *Services) here(c *Cluster, i Instance, value string) []string {
	if port, ok := strings.CutPrefix(value, ":"); ok {
		return []string{i.Addresses[port]}
	}
	host, port, err := net.SplitHostPort(value)
	if err != nil {
		return []string{s.file(c, i.Role, filepath.Join(c.Dir, i.Name), value)}
	}
	if host == Kafka {
		return c.Brokers
	}
	var all []string
	for _, other := range c.of(host) {
		all = append(all, other.Addresses[port])
	}
	if all == nil {
		return []string{value}
	}
	return all
}

// file returns the file on this machine that stands for one in a service's
// containers; what is no absolute path it returns as it is.
func (s *Services) file(c *Cluster, service, scratch, name string) string {
	if !path.IsAbs(name) {
		return name
	}
	if secret, ok := strings.CutPrefix(name, "/run/secrets/"); ok {
		return c.Secret(secret)
	}
	for _, volume := range s.project.Services[service].Volumes {
		rest, ok := strings.CutPrefix(name, volume.Target)
		if !ok || rest != "" && rest[0] != '/' {
			continue
		}
		if volume.Type == "bind" {
			return volume.Source + rest
		}
		return c.Volume(volume.Source) + rest
	}
	return filepath.Join(scratch, name)
}

// Secret returns the file of a secret.
func (c *Cluster) Secret(name string) string { return filepath.Join(c.Dir, "secrets", name) }

// Volume returns the folder of a volume.
func (c *Cluster) Volume(name string) string { return filepath.Join(c.Dir, "volumes", name) }
