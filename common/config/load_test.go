package config

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/matrix-org/dendrite/common/httpapi"
)

// sample is the documented configuration, relative to this package.
const sample = "../../dendrite-config.yaml"

func named(c *Dendrite) { c.Global.ServerName = "example.org" }

// TestSampleAgrees checks that the documented file has every option, no other,
// and the defaults.
func TestSampleAgrees(t *testing.T) {
	loaded, err := Load(sample, nil, named)
	if err != nil {
		t.Fatal(err)
	}
	defaults, err := Load("", nil, named)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]option{}
	for _, o := range options(defaults) {
		want[o.path] = o
	}
	for _, o := range options(loaded) {
		if o.value.Kind() == reflect.Slice && o.value.Len() == 0 && want[o.path].value.Len() == 0 {
			continue
		}
		if !reflect.DeepEqual(o.value.Interface(), want[o.path].value.Interface()) {
			t.Errorf("%s: the file has %v, the default is %v", o.path, o.value, want[o.path].value)
		}
	}
	text, err := os.ReadFile(sample)
	if err != nil {
		t.Fatal(err)
	}
	var root yaml.Node
	if err := yaml.Unmarshal(text, &root); err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	keys(t, "", root.Content[0], documented)
	for path := range want {
		if !documented[path] {
			t.Errorf("%s is not in the file", path)
		}
	}
	for path := range documented {
		if _, ok := want[path]; !ok {
			t.Errorf("%s is in the file but no option", path)
		}
	}
}

// keys collects the options of a document, and wants a comment above each but
// for tls_key, which shares its neighbour's.
func keys(t *testing.T, prefix string, n *yaml.Node, into map[string]bool) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		path := strings.TrimPrefix(prefix+"."+key.Value, ".")
		if value.Kind == yaml.MappingNode {
			keys(t, path, value, into)
			continue
		}
		grouped := path == "http.tls_key" || strings.HasPrefix(path, "rate_limiting.") && strings.Count(path, ".") == 2
		if key.HeadComment == "" && !grouped {
			t.Errorf("%s has no comment", path)
		}
		into[path] = true
	}
}

func TestLoadGood(t *testing.T) {
	c, err := Load("testdata/good.yaml", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.Global.ServerName != "example.org" || c.Global.PrivateKey != "/srv/dendrite/signing.key" ||
		!c.Registration.TokenRequired || c.Registration.SharedSecret != "a secret of some length" ||
		c.RateLimiting.Message != (Rate{PerSecond: 2.5, Burst: 9}) || !c.RateLimiting.Enabled ||
		len(c.HTTP.Proxies()) != 1 || c.SyncAPI.MaxTimeout != 45*time.Second ||
		len(c.Registration.Terms) != 1 || c.Registration.Terms[0].Language != "en" {
		t.Errorf("loaded %+v", c)
	}
}

func TestLoadBad(t *testing.T) {
	files, err := filepath.Glob("testdata/bad-*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		_, err = Load(file, nil, nil)
		if err == nil {
			t.Errorf("%s is accepted", file)
			continue
		}
		for line := range strings.Lines(string(text)) { // the first lines say what is expected
			want, ok := strings.CutPrefix(strings.TrimSpace(line), "# want: ")
			if ok && !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q is not in %q", file, want, err)
			}
		}
	}
}

func TestEnvironment(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("0123456789abcdef\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load("testdata/good.yaml", []string{
		"PATH=/bin", "DENDRITE_TEST_POSTGRES=x", "DENDRITE_SOMETHING=else", "DENDRITE_REGISTRATION_OPEN=true",
		"DENDRITE_RATE_LIMITING_ENABLED=false", "DENDRITE_FEDERATION_DENY_RANGES=", "DENDRITE_LOG_LEVEL=debug",
		"DENDRITE_APPSERVICE_CONFIG_FILES=" + secret + ", " + sample, "DENDRITE_CLIENT_API_WRITER_ANSWER_TIMEOUT=7s",
		"DENDRITE_REGISTRATION_SHARED_SECRET=", "DENDRITE_REGISTRATION_SHARED_SECRET_FILE=" + secret,
		"DENDRITE_RATE_LIMITING_LOGIN_PER_SECOND=1.5", "DENDRITE_GLOBAL_DATA_DIR=/elsewhere",
	}, func(c *Dendrite) { c.Log.Format = "json" })
	if err != nil {
		t.Fatal(err)
	}
	if !c.Registration.Open || c.RateLimiting.Buckets() != nil || len(c.Federation.Denied()) != 0 || c.Log.Level != "debug" ||
		len(c.Appservice.ConfigFiles) != 2 || c.ClientAPI.Writer.AnswerTimeout != 7*time.Second || c.Log.Format != "json" ||
		c.Registration.SharedSecret != "0123456789abcdef" || c.RateLimiting.Login.PerSecond != 1.5 {
		t.Errorf("loaded %+v", c)
	}
	for _, bad := range []string{
		"DENDRITE_REGISTRATION_OPNE=true", "DENDRITE_REGISTRATION_OPEN=perhaps", "DENDRITE_REGISTRATION_OPEN=",
		"DENDRITE_EVENT_LOG_PARTITIONS=many", "DENDRITE_EVENT_LOG_PARTITIONS=-1", "DENDRITE_SYNC_API_MAX_TIMEOUT=-1s",
		"DENDRITE_REGISTRATION_SHARED_SECRET_FILE=/does/not/exist", "DENDRITE_RATE_LIMITING_LOGIN_PER_SECOND=.nan",
		"DENDRITE_HTTP_LISTEN=8008", "DENDRITE_REGISTRATION_SHARED_SECRET=short",
	} {
		if _, err := Load("", []string{bad}, named); err == nil {
			t.Errorf("%s is accepted", bad)
		}
	}
}

// TestEnvironmentNames checks that no two options have the same variable.
func TestEnvironmentNames(t *testing.T) {
	seen := map[string]string{}
	for _, o := range options(Default()) {
		if strings.HasSuffix(o.path, ".") || strings.Contains(o.path, "..") {
			t.Errorf("a field within %q has no yaml tag", o.path)
		}
		if other, ok := seen[o.env()]; ok {
			t.Errorf("%s sets both %s and %s", o.env(), other, o.path)
		}
		seen[o.env()] = o.path
		if strings.HasPrefix(o.env(), envIgnored) {
			t.Errorf("%s would be ignored", o.env())
		}
	}
}

func TestSafeDefaults(t *testing.T) {
	c := Default()
	if c.Registration.Open || c.Registration.GuestsOpen || c.Registration.SharedSecret != "" || !c.RateLimiting.Enabled ||
		c.Metrics.Listen != "" || len(c.Federation.Denied()) < 20 || !strings.HasPrefix(c.HTTP.Listen, "127.0.0.1:") {
		t.Errorf("the defaults are %+v", c)
	}
	for name, rate := range c.RateLimiting.Buckets() {
		if rate.PerSecond <= 0 || rate.Burst < 1 {
			t.Errorf("%s has no limit: %s", name, fmt.Sprint(rate))
		}
	}
	if err := c.Validate(); err == nil || !strings.Contains(err.Error(), "global.server_name: is needed") {
		t.Errorf("without a name: %v", err)
	}
}

// TestBucketNames checks that every limit of the edge has its rate.
func TestBucketNames(t *testing.T) {
	c := Default()
	buckets := c.RateLimiting.Buckets()
	all := []httpapi.Limit{
		httpapi.LimitRequest, httpapi.LimitMessage, httpapi.LimitLogin, httpapi.LimitRegistration,
		httpapi.LimitJoin, httpapi.LimitInvite, httpapi.LimitCreateRoom, httpapi.LimitUpload, httpapi.LimitDownload, httpapi.LimitURLPreview,
	}
	for _, limit := range all {
		if _, ok := buckets[string(limit)]; !ok {
			t.Errorf("%s has no rate", limit)
		}
	}
	if len(buckets) != len(all) {
		t.Errorf("the rates are %v", buckets)
	}
}
