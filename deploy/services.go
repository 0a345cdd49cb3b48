package deploy

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

// Names of the services that are not built from this repository, and of the one
// that makes keys.
const (
	Kafka    = "kafka"
	Postgres = "postgres"
	Proxy    = "proxy"
	Keys     = "keys"
)

// Services are those of docker-compose.yml.
type Services struct {
	// Root is the repository.
	Root    string
	project *types.Project
	// settings are those of dendrite.yaml.
	settings []setting
}

// Load reads docker-compose.yml and dendrite.yaml of a repository, for a server
// of that name.
func Load(ctx context.Context, root, serverName string) (*Services, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	options, err := cli.NewProjectOptions([]string{filepath.Join(root, "docker-compose.yml")}, cli.WithWorkingDirectory(root),
		cli.WithEnv([]string{"SERVER_NAME=" + serverName}))
	if err != nil {
		return nil, fmt.Errorf("docker-compose.yml: %w", err)
	}
	project, err := options.LoadProject(ctx)
	if err != nil {
		return nil, fmt.Errorf("docker-compose.yml: %w", err)
	}
	s := &Services{Root: root, project: project}
	if s.settings, err = readSettings(filepath.Join(root, "deploy", "dendrite.yaml")); err != nil {
		return nil, err
	}
	for _, name := range project.ServiceNames() {
		if project.Services[name].Build == nil && !slices.Contains([]string{Kafka, Postgres, Proxy}, name) {
			return nil, fmt.Errorf("docker-compose.yml: nobody knows how to run the service %q without a container", name)
		}
	}
	return s, nil
}

// Roles lists the services that are roles of Dendrite.
func (s *Services) Roles() []string {
	var roles []string
	for _, name := range s.project.ServiceNames() {
		if name != Keys && s.project.Services[name].Build != nil {
			roles = append(roles, name)
		}
	}
	return roles
}

// ports lists the ports that an instance of a role listens at, as they are
// written in dendrite.yaml.
func (s *Services) ports() []string {
	var ports []string
	for _, o := range s.settings {
		for _, value := range o.values {
			if port, ok := strings.CutPrefix(value, ":"); ok {
				ports = append(ports, port)
			}
		}
	}
	return ports
}
