package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/matrix-org/dendrite/deploy"
)

const script = "../../scripts/cluster"

// installation is a cluster that runs as long as the test.
type installation struct{ *machine }

// runCluster starts a cluster with two instances of every role.
func runCluster(t *testing.T) *installation {
	t.Helper()
	i := &installation{&machine{}}
	dir := filepath.Join(t.TempDir(), "cluster")
	// Other users than ours pass through the folders on the way.
	for _, d := range []string{filepath.Dir(dir), filepath.Dir(filepath.Dir(dir))} {
		if err := os.Chmod(d, 0o711); err != nil {
			t.Fatal(err)
		}
	}
	command := exec.Command(script, "run", dir, "--instances", "2")
	var complaints bytes.Buffer
	command.Stderr = &complaints
	input, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		input.Close()
		if err := command.Wait(); err != nil {
			t.Errorf("scripts/cluster: %v\n%s", err, complaints.String())
		}
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("%s is left: %v", dir, err)
		}
		// Nor does a worker of nginx hold the port.
		if connection, err := net.Dial("tcp", i.state.Proxy.HTTP); err == nil {
			connection.Close()
			t.Error("the proxy is left")
		}
	})
	// It says where clients find it once everything is ready.
	lines := bufio.NewScanner(output)
	for lines.Scan() && !strings.HasPrefix(lines.Text(), "clients: ") {
		t.Log(lines.Text())
	}
	i.dir = dir
	if known, err := i.load(); err != nil || !known {
		t.Fatalf("no cluster was started: %v", err)
	}
	if i.services, err = deploy.Load(t.Context(), "../..", i.state.ServerName); err != nil {
		t.Fatal(err)
	}
	i.cluster = &deploy.Cluster{Dir: dir, Bin: filepath.Join(i.services.Root, "bin"), Instances: i.state.Instances}
	return i
}

func (i *installation) url(path string) string { return "http://" + i.state.Proxy.HTTP + path }

// user is a client of the installation, through the proxy.
type user struct {
	*installation
	token, since string
}

// register makes an account with create-account, and logs in.
func (i *installation) register(t *testing.T, name string) *user {
	t.Helper()
	command := exec.Command(filepath.Join(i.cluster.Bin, "create-account"), "--url", i.url(""), "--username", name,
		"--shared-secret-file", i.cluster.Secret("registration_secret"))
	command.Stdin = strings.NewReader("correct horse\n")
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("create-account: %v: %s", err, out)
	}
	u := &user{installation: i}
	var answer struct {
		Token string `json:"access_token"`
	}
	u.call(t, "POST", "/_matrix/client/v3/login", fmt.Sprintf(`{"type":"m.login.password","identifier":{"type":"m.id.user","user":%q},"password":"correct horse"}`, name), &answer)
	u.token = answer.Token
	return u
}

// call sends a request that must succeed.
func (u *user) call(t *testing.T, method, path, body string, answer any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, u.url(path), strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+u.token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %s %s", method, path, res.Status, text)
	}
	if err := json.Unmarshal(text, answer); err != nil {
		t.Fatalf("%s %s: %v: %s", method, path, err, text)
	}
}

// send sends a message, and returns its event ID.
func (u *user) send(t *testing.T, roomID, text string) string {
	t.Helper()
	var sent struct {
		EventID string `json:"event_id"`
	}
	u.call(t, "PUT", "/_matrix/client/v3/rooms/"+url.PathEscape(roomID)+"/send/m.room.message/"+url.PathEscape(text), fmt.Sprintf(`{"msgtype":"m.text","body":%q}`, text), &sent)
	return sent.EventID
}

// await syncs until it has an event.
func (u *user) await(t *testing.T, roomID, eventID string) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		var answer struct {
			Next  string `json:"next_batch"`
			Rooms struct {
				Join map[string]struct {
					Timeline struct {
						Events []struct {
							ID string `json:"event_id"`
						}
					}
				}
			}
		}
		u.call(t, "GET", "/_matrix/client/v3/sync?timeout=5000&since="+url.QueryEscape(u.since), "", &answer)
		u.since = answer.Next
		for _, event := range answer.Rooms.Join[roomID].Timeline.Events {
			if event.ID == eventID {
				return
			}
		}
	}
	t.Fatalf("%s never came", eventID)
}

// TestClusterOutlivesOneInstanceOfEachRole: two users talk through the proxy while
// an instance of each role is killed, comes back, and the other is stopped.
func TestClusterOutlivesOneInstanceOfEachRole(t *testing.T) {
	i := runCluster(t)
	alice, bob := i.register(t, "alice"), i.register(t, "bob")
	var room struct {
		ID string `json:"room_id"`
	}
	alice.call(t, "POST", "/_matrix/client/v3/createRoom", `{"preset":"public_chat"}`, &room)
	bob.call(t, "POST", "/_matrix/client/v3/join/"+url.PathEscape(room.ID), `{}`, &room)
	talk := func(when string) {
		t.Helper()
		for n := range 4 { // each instance has its turn
			bob.await(t, room.ID, alice.send(t, room.ID, fmt.Sprintf("a %s %d", when, n)))
			alice.await(t, room.ID, bob.send(t, room.ID, fmt.Sprintf("b %s %d", when, n)))
		}
	}
	talk("at first")
	for _, role := range i.services.Roles() {
		first, second := role+"-1", role+"-2"
		if i.pid(first) == 0 || i.pid(second) == 0 {
			t.Fatalf("%s does not run twice", role)
		}
		if err := i.end([]string{first}, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		talk(first + " was killed")
		if err := i.start(t.Context(), []string{first}); err != nil {
			t.Fatal(err)
		}
		if err := i.end([]string{second}, syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		talk(second + " was stopped")
		if err := i.start(t.Context(), []string{second}); err != nil {
			t.Fatal(err)
		}
	}
	if err := i.status(); err != nil {
		t.Error(err)
	}
}
