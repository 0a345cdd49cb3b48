package deploy

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestStorageIsDescribed: docs/storage.md names every table.
func TestStorageIsDescribed(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "docs", "storage.md"))
	if err != nil {
		t.Fatal(err)
	}
	common, components, found := strings.Cut(string(text), "## Tables")
	if !found {
		t.Fatal("storage.md has no section of tables")
	}
	_, leases, found := strings.Cut(components, "**leases**")
	if !found {
		t.Fatal("storage.md has no leases")
	}
	sections := map[string]string{"lease": leases}
	for _, component := range []string{"roomserver", "userapi", "directoryapi", "syncapi", "mediaapi", "pushapi", "searchapi"} {
		_, section, found := strings.Cut(components, "**"+component+"**")
		if !found {
			t.Fatalf("storage.md has no section of %s", component)
		}
		sections[component], _, _ = strings.Cut(section, "\n**")
	}
	made := regexp.MustCompile(`(?m)^CREATE TABLE (\w+)`)
	files, err := filepath.Glob(filepath.Join("..", "*", "*", "migrations", "*.sql"))
	if err != nil {
		t.Fatal(err)
	}
	nested, err := filepath.Glob(filepath.Join("..", "*", "migrations", "*.sql"))
	if err != nil {
		t.Fatal(err)
	}
	tables := 0
	for _, file := range append(files, nested...) {
		sql, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		parts := strings.Split(filepath.ToSlash(file), "/")
		component := parts[1]
		if component == "common" {
			component = parts[2]
		}
		for _, table := range made.FindAllStringSubmatch(string(sql), -1) {
			tables++
			if !strings.Contains(sections[component], "`"+table[1]+"`") {
				t.Errorf("storage.md does not say what %s of %s is", table[1], component)
			}
		}
	}
	if tables < 30 {
		t.Errorf("only %d tables were found", tables)
	}
	for _, topic := range []string{"room.input", "room.output", "room.answers", "user.output", "user.activity", "ephemeral"} {
		if !strings.Contains(common, "| `"+topic+"` |") {
			t.Errorf("storage.md does not describe the topic %s", topic)
		}
	}
}
