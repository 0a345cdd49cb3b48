package kafkatest_test

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/matrix-org/dendrite/common/eventlog/kafka/kafkatest"
)

// TestKilled: the broker of a process that is killed ends as well.
func TestKilled(t *testing.T) {
	const variable = "DENDRITE_KAFKATEST_CHILD"
	if os.Getenv(variable) != "" {
		fmt.Println("brokers", kafkatest.Start(t).Brokers[0])
		select {} // until killed
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilled$")
	cmd.Env = append(os.Environ(), variable+"=1", kafkatest.Variable+"=")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	address := ""
	for lines := bufio.NewScanner(out); address == "" && lines.Scan(); {
		address, _ = strings.CutPrefix(lines.Text(), "brokers ")
		if !strings.Contains(lines.Text(), "brokers ") {
			address = ""
		}
	}
	if !answers(address) {
		t.Errorf("no broker at %q", address)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	tick, late := time.NewTicker(50*time.Millisecond), time.After(time.Minute)
	defer tick.Stop()
	for answers(address) {
		select {
		case <-tick.C:
		case <-late:
			t.Fatal("the broker outlived its process")
		}
	}
}

func answers(address string) bool {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return false
	}
	_ = c.Close() // it answered
	return true
}
