package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// Some tests need a server whose clock can be set, that stops in a certain place,
// or that has a bug. All of them run one binary, built once from sources that
// differ (go build -overlay), which does as it always does but for what its
// environment asks for. Under the name of a role it is that role.

// sources are the texts of the files that differ, by path.
type sources map[string]string

// text is that of a file, as far as it has been changed.
func (s sources) text(file string) (string, error) {
	if text, ok := s[file]; ok {
		return text, nil
	}
	text, err := os.ReadFile(file)
	return string(text), err
}

// edit is a change of one place in a file.
type edit struct{ file, old, new string }

// edit makes a change, in which package planted may be named.
func (s sources) edit(e edit) error {
	text, err := s.text(e.file)
	if err != nil {
		return err
	}
	if n := strings.Count(text, e.old); n != 1 {
		return fmt.Errorf("%s holds %q, which is to be changed, %d times: the bug has to be planted anew", e.file, e.old, n)
	}
	if !strings.Contains(text, "planted.") {
		text = withImport(text, "planted")
	}
	s[e.file] = strings.Replace(text, e.old, e.new, 1)
	return nil
}

// add adds a file of testdata.
func (s sources) add(file, from string) error {
	text, err := os.ReadFile(filepath.Join("testdata", from))
	s[file] = string(text)
	return err
}

var packageClause = regexp.MustCompile(`(?m)^package \w+$`)

// withImport imports another package of common/.
func withImport(text, name string) string {
	at := packageClause.FindStringIndex(text)[1]
	return text[:at] + fmt.Sprintf("\n\nimport %q", "github.com/matrix-org/dendrite/common/"+name) + text[at:]
}

// alteredSources are all that differ.
func alteredSources() (sources, error) {
	s := sources{}
	for file, from := range map[string]string{"../cmd/dendrite/main.go": "anyrole.go",
		"../common/planted/planted.go": "planted.go", "../common/setclock/setclock.go": "setclock.go"} {
		if err := s.add(file, from); err != nil {
			return nil, err
		}
	}
	edits := stops
	for _, bug := range planted {
		edits = append(edits[:len(edits):len(edits)], bug...)
	}
	for _, e := range edits {
		if err := s.edit(e); err != nil {
			return nil, err
		}
	}
	return s, s.setClock()
}

// stops are the places in which a room server can be stopped, with a batch that
// has something to store or to publish, and where answers of brokers get lost.
var stops = []edit{
	{"../roomserver/publish.go", "	for _, messages := range [][]eventlog.Message{outputs, answers} {\n",
		"	if len(outputs) > 0 {\n		planted.StopAt(\"publish\")\n	}\n	for _, messages := range [][]eventlog.Message{outputs, answers} {\n"},
	{"../roomserver/store.go", "	rows := &storage.Batch{}\n",
		"	for _, in := range b.inputs {\n		if len(in.staged) > 0 {\n			planted.StopAt(\"write\")\n			break\n		}\n	}\n	rows := &storage.Batch{}\n"},
	{"../common/eventlog/kafka/send.go", "		answer, err = broker.Produce(request)\n",
		"		if answer, err = broker.Produce(request); planted.Lost() {\n			err = sarama.ErrNotConnected\n		}\n"},
}

// buildAltered makes a folder with that binary, as dendrite and as each role.
func buildAltered(dir string) error {
	s, err := alteredSources()
	if err != nil {
		return err
	}
	list, err := s.overlay(dir)
	if err != nil {
		return err
	}
	if err := build(filepath.Join(dir, "dendrite"), "-overlay", list); err != nil {
		return err
	}
	for _, role := range allRoles {
		if err := os.Symlink("dendrite", filepath.Join(dir, binaryOf(role))); err != nil {
			return err
		}
	}
	return nil
}

// overlay writes the sources into a folder and makes an argument for -overlay.
func (s sources) overlay(dir string) (string, error) {
	replace := map[string]string{}
	for file, text := range s {
		path, err := filepath.Abs(file)
		if err != nil {
			return "", err
		}
		replace[path] = filepath.Join(dir, fmt.Sprint(len(replace), ".go"))
		if err := os.WriteFile(replace[path], []byte(text), 0o600); err != nil {
			return "", err
		}
	}
	text, err := json.Marshal(object{"Replace": replace})
	if err != nil {
		return "", err
	}
	list := filepath.Join(dir, "overlay.json")
	return list, os.WriteFile(list, text, 0o600)
}

// build builds cmd/dendrite, with the race detector where these tests have it.
func build(to string, args ...string) error {
	args = append([]string{"build", "-o", to}, args...)
	if raceEnabled {
		args = append(args, "-race")
	}
	out, err := exec.Command("go", append(args, "../cmd/dendrite")...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("building dendrite: %w\n%s", err, out)
	}
	return nil
}
