package testserver

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// Script returns the path of one of the scripts, from a package's folder.
func Script(name string) (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		path := filepath.Join(dir, "scripts", name)
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("testserver: there is no scripts/%s above the test's folder", name)
		}
		dir = filepath.Dir(dir)
	}
}

// Server is a server that runs until its End, or the end of the process.
type Server struct {
	// Dir is the server's folder, which its script removes.
	Dir string
	// Said is the line that the script says once the server is ready: where it is.
	Said string

	pipe io.Closer
	cmd  *exec.Cmd
}

// Serve runs "serve DIR" of a script.
func Serve(name string) (*Server, error) {
	path, err := Script(name)
	if err != nil {
		return nil, err
	}
	// Not a test's own folder: the server's user must be able to get there.
	dir, err := os.MkdirTemp("", "dendrite-"+name+"-")
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(path, "serve", dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt from the terminal is for us
	var failure bytes.Buffer
	cmd.Stderr = &failure
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		err = errors.Join(cmd.Wait(), os.RemoveAll(dir))
		return nil, fmt.Errorf("testserver: %s does not start: %s: %w", name, strings.TrimSpace(failure.String()), err)
	}
	return &Server{Dir: dir, Said: strings.TrimSpace(line), pipe: in, cmd: cmd}, nil
}

// End ends the server and waits for that.
func (s *Server) End() error { return errors.Join(s.pipe.Close(), s.cmd.Wait()) }
