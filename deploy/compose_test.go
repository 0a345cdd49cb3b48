package deploy

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"

	"github.com/matrix-org/dendrite/cmd/roles"
	"github.com/matrix-org/dendrite/common/config"
)

// TestComposeFileIsChecked shows that Load holds the file against the schema of
// the Compose specification, and asks for the server's name.
func TestComposeFileIsChecked(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "docker-compose.yml"))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ old, new, complaint string }{
		"unknown key":     {"    shm_size: 256m\n", "    shm_sizes: 256m\n", "shm_sizes"},
		"wrong type":      {"    shm_size: 256m\n", "    shm_size: []\n", "shm_size"},
		"unknown secret":  {"secrets: [postgres_password]", "secrets: [password]", "password"},
		"unknown service": {"      media-api: {condition: service_healthy}", "      media: {condition: service_healthy}", "media"},
		"no server name":  {"${SERVER_NAME:?", "${NAME:?", "NAME"},
	} {
		changed := bytes.Replace(text, []byte(c.old), []byte(c.new), 1)
		if bytes.Equal(changed, text) {
			t.Fatalf("%s: the file has no %q", name, c.old)
		}
		file := filepath.Join(t.TempDir(), "docker-compose.yml")
		if err := os.WriteFile(file, changed, 0o600); err != nil {
			t.Fatal(err)
		}
		options, err := cli.NewProjectOptions([]string{file}, cli.WithEnv([]string{"SERVER_NAME=example.org"}))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := options.LoadProject(t.Context()); err == nil || !strings.Contains(err.Error(), c.complaint) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestEveryRoleHasAService(t *testing.T) {
	s := services(t)
	var binaries, services []string
	folders, err := filepath.Glob(filepath.Join("..", "cmd", "dendrite-*-server"))
	if err != nil {
		t.Fatal(err)
	}
	for _, folder := range append(folders, filepath.Join("..", "cmd", "dendrite-room-server")) {
		binaries = append(binaries, filepath.Base(folder))
	}
	for _, name := range s.Roles() {
		binary := strings.TrimPrefix(s.project.Services[name].Entrypoint[0], "/")
		services = append(services, binary)
		if binary != "dendrite-"+name+"-server" && binary != "dendrite-"+name {
			t.Errorf("the service %s runs %s", name, binary)
		}
	}
	slices.Sort(binaries)
	slices.Sort(services)
	if binaries = slices.Compact(binaries); !slices.Equal(binaries, services) {
		t.Errorf("binaries %v, services %v", binaries, services)
	}
}

func TestServicesCanBeScaledAndAreConfined(t *testing.T) {
	s := services(t)
	for name, service := range s.project.Services {
		if service.ContainerName != "" || service.Hostname != "" || service.Scale != nil || service.Deploy != nil {
			t.Errorf("%s has a name or a number of its own", name)
		}
		if len(service.Ports) > 0 && name != Proxy {
			t.Errorf("%s has ports of the host: only the proxy has", name)
		}
		if !slices.Equal(service.CapDrop, []string{"ALL"}) || len(service.CapAdd) > 0 || service.Privileged ||
			!slices.Equal(service.SecurityOpt, []string{"no-new-privileges:true"}) {
			t.Errorf("%s can do more than it needs", name)
		}
		if name == Keys {
			if service.Restart != types.RestartPolicyNo || len(service.Profiles) > 0 {
				t.Errorf("%s does not run once at each start", name)
			}
			continue
		}
		if service.HealthCheck == nil || service.Restart != types.RestartPolicyUnlessStopped || service.StopGracePeriod == nil {
			t.Errorf("%s lacks a health check, a restart policy or time to stop", name)
		}
	}
	var http config.HTTP
	http.Defaults()
	for _, name := range append(s.Roles(), Proxy) {
		service := s.project.Services[name]
		if service.User != "65532:65532" || !service.ReadOnly {
			t.Errorf("%s runs as %q, read-only: %v", name, service.User, service.ReadOnly)
		}
		if got := time.Duration(*service.StopGracePeriod); got < http.ShutdownGrace+10*time.Second {
			t.Errorf("%s has %s to stop, requests have %s", name, got, http.ShutdownGrace)
		}
	}
	for _, name := range s.Roles() {
		service := s.project.Services[name]
		if service.DependsOn[Kafka].Condition != types.ServiceConditionHealthy || service.DependsOn[Postgres].Condition != types.ServiceConditionHealthy {
			t.Errorf("%s does not wait for Kafka and PostgreSQL", name)
		}
		if service.DependsOn[Keys].Condition != types.ServiceConditionCompletedSuccessfully {
			t.Errorf("%s does not wait for the keys", name)
		}
		if !slices.Equal(service.HealthCheck.Test, []string{"CMD", "/healthcheck", "http://127.0.0.1:" + OperatorPort + "/ready"}) {
			t.Errorf("%s is asked %v", name, service.HealthCheck.Test)
		}
	}
}

// TestInstancesOnOneMachine loads the configuration that an instance without
// containers gets: it is that of a container, but for addresses and files.
func TestInstancesOnOneMachine(t *testing.T) {
	s := services(t)
	c := &Cluster{Dir: t.TempDir(), Bin: "/bin", Brokers: []string{"127.0.0.1:1", "127.0.0.1:2"}}
	port := 20000 // nobody listens
	for _, role := range s.Roles() {
		if err := s.Scale(c, role, 2, func() (string, error) { port++; return fmt.Sprintf("127.0.0.1:%d", port), nil }); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(c.Secret(""), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, secret := range map[string]string{
		"database_url": "postgres://a:b@127.0.0.1/c", "internal_secret": strings.Repeat("i", 20), "registration_secret": strings.Repeat("r", 20),
	} {
		if err := os.WriteFile(c.Secret(name), []byte(secret), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := len(c.of("sync-api")); got != 2 {
		t.Fatalf("%d instances", got)
	}
	rooms := []string{c.of("room-server")[0].Addresses["7770"], c.of("room-server")[1].Addresses["7770"]}
	listening := map[string]bool{}
	for _, i := range c.Instances {
		command := s.Command(c, i)
		if command.Program != "/bin/dendrite-"+i.Role+"-server" && command.Program != "/bin/dendrite-"+i.Role || !slices.Equal(command.Arguments, []string{"--config", filepath.Join(s.Root, "deploy", "dendrite.yaml")}) {
			t.Errorf("%s: %s %v", i.Name, command.Program, command.Arguments)
		}
		got, err := config.Load(command.Arguments[1], command.Environment, nil)
		if err != nil {
			t.Fatalf("%s: %v", i.Name, err)
		}
		if got.Global.ServerName != "example.org" || got.Global.PrivateKey != c.Volume("keys")+"/signing.key" || !slices.Equal(got.EventLog.Kafka.Brokers, c.Brokers) ||
			got.Database.URL != "postgres://a:b@127.0.0.1/c" || !slices.Equal(got.Internal.RoomServer, rooms) || len(got.Internal.SyncAPI) != 2 {
			t.Errorf("%s: got %+v", i.Name, got)
		}
		for _, address := range []string{got.HTTP.Listen, got.Metrics.Listen, got.Internal.Listen} {
			if host, _, err := net.SplitHostPort(address); err != nil || host != "127.0.0.1" || listening[address] {
				t.Errorf("%s listens at %s: %v", i.Name, address, err)
			}
			listening[address] = true
		}
		if want := c.Volume("media"); (i.Role == "media-api") != (got.Global.DataDir == want) {
			t.Errorf("%s stores in %s", i.Name, got.Global.DataDir)
		}
	}
	command := s.MakeKeys(c)
	if !slices.Contains(command.Arguments, "--private-key="+c.Volume("keys")+"/signing.key") || !slices.Contains(command.Arguments, "--keep") || !slices.Contains(command.Arguments, "--server=example.org") ||
		!slices.Contains(command.Arguments, "--tls-cert="+c.Volume("tls")+"/tls.crt") {
		t.Errorf("keys are made by %v", command.Arguments)
	}
}

// TestPrepare makes what the compose file asks for, and replaces nothing.
func TestPrepare(t *testing.T) {
	root := t.TempDir()
	script, err := os.ReadFile("prepare")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(root, "deploy"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "deploy", "prepare"), script, 0o700); err != nil {
		t.Fatal(err)
	}
	prepare := func(serverName string) error {
		return exec.Command(filepath.Join(root, "deploy", "prepare"), serverName).Run()
	}
	if err := prepare("example.org"); err != nil {
		t.Fatal(err)
	}
	s := services(t)
	first := map[string]string{}
	for name, secret := range s.project.Secrets {
		relative, err := filepath.Rel(s.Root, secret.File)
		if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(filepath.Join(root, relative))
		if err != nil || len(text) < 32 {
			t.Errorf("the secret %s is %d bytes: %v", name, len(text), err)
		}
		first[filepath.Join(root, relative)] = string(text)
	}
	if len(first) == 0 {
		t.Fatal("the compose file has no secrets")
	}
	if !strings.Contains(first[filepath.Join(root, "deploy", "secrets", "database_url")], ":"+first[filepath.Join(root, "deploy", "secrets", "postgres_password")]+"@postgres/") {
		t.Error("the URL of the database does not have its password")
	}
	if info, err := os.Stat(filepath.Join(root, "deploy", "secrets")); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("strangers can reach the secrets: %v %v", info.Mode(), err)
	}
	if prepare("example.com") == nil {
		t.Error("the server's name could be changed")
	}
	if err := prepare("example.org"); err != nil {
		t.Fatal(err)
	}
	for file, text := range first {
		if now, err := os.ReadFile(file); err != nil || string(now) != text {
			t.Errorf("%s was replaced: %v", file, err)
		}
	}
	if env, err := os.ReadFile(filepath.Join(root, ".env")); err != nil || string(env) != "SERVER_NAME=example.org\n" {
		t.Errorf(".env is %q: %v", env, err)
	}
}

// TestVersions: what names a version names the same one.
func TestVersions(t *testing.T) {
	s := services(t)
	for name, service := range s.project.Services {
		if version, ok := strings.CutPrefix(service.Image, "dendrite:"); ok && !strings.HasPrefix(roles.Version(), version) {
			t.Errorf("%s is %s, this is %s", name, service.Image, roles.Version())
		}
	}
	pom, err := os.ReadFile(filepath.Join("..", "scripts", "kafka.d", "pom.xml"))
	if err != nil {
		t.Fatal(err)
	}
	tested := regexp.MustCompile(`<kafka.version>(.+)</kafka.version>`).FindSubmatch(pom)
	if tested == nil || s.project.Services[Kafka].Image != "apache/kafka:"+string(tested[1]) {
		t.Errorf("the tests run Kafka %q, the containers %s", tested, s.project.Services[Kafka].Image)
	}
	changes, err := os.ReadFile(filepath.Join("..", "CHANGELOG.md"))
	if err != nil {
		t.Fatal(err)
	}
	newest := regexp.MustCompile(`(?m)^## v(\S+)`).FindSubmatch(changes)
	if newest == nil || !strings.HasPrefix(roles.Version(), string(newest[1])) {
		t.Errorf("CHANGELOG.md begins with %q, this is %s", newest, roles.Version())
	}
}
