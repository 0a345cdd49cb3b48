package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxFileBytes bounds the configuration and secret files.
const maxFileBytes = 1 << 20

// Load reads the configuration: the defaults, over them the file at path ("" for
// none), over that the environment (NAME=value, as of os.Environ), over that
// override (flags; may be nil). Secrets are read from their files, and the whole
// is validated. The error names all that is wrong, files with line and key.
func Load(path string, env []string, override func(*Dendrite)) (*Dendrite, error) {
	c := Default()
	// What follows from other options follows from what is given.
	c.Global.PrivateKey = ""
	if path != "" {
		text, err := readFile(path)
		if err != nil {
			return nil, fmt.Errorf("config: %w", err)
		}
		if err := decode(text, c); err != nil {
			return nil, fmt.Errorf("config: %s: %w", path, err)
		}
	}
	if err := fromEnvironment(c, env); err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	if override != nil {
		override(c)
	}
	if err := readSecrets(c); err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	// Some sections take whatever is below zero for left out.
	err := c.notNegative()
	c.fill()
	if err = errors.Join(err, c.Validate()); err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	return c, nil
}

// readFile reads a file that must not be larger than maxFileBytes.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	if len(text) > maxFileBytes {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, maxFileBytes)
	}
	return text, nil
}

// decode reads one YAML document over c; what c has no field for is an error.
func decode(text []byte, c *Dendrite) error {
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	err := d.Decode(c)
	if errors.Is(err, io.EOF) { // nothing but comments
		return nil
	}
	if err != nil {
		return plain(err)
	}
	if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return errors.New("there is more than one YAML document")
	}
	return nil
}

// plain says without Go's type names what is wrong.
func plain(err error) error {
	var types *yaml.TypeError
	if !errors.As(err, &types) {
		return err
	}
	unknown := regexp.MustCompile(`field (\S+) not found in type \S+`)
	var all []error
	for _, line := range types.Errors {
		all = append(all, errors.New(unknown.ReplaceAllString(line, "there is no option $1")))
	}
	return errors.Join(all...)
}

// readSecrets fills in every option that has a twin with _file behind its name.
func readSecrets(c *Dendrite) error {
	all := map[string]option{}
	for _, o := range options(c) {
		all[o.path] = o
	}
	var errs []error
	for path, file := range all {
		secret, ok := all[strings.TrimSuffix(path, "_file")]
		if !strings.HasSuffix(path, "_file") || !ok || file.value.String() == "" {
			continue
		}
		if secret.value.String() != "" {
			errs = append(errs, fmt.Errorf("%s and %s are both given", secret.path, path))
			continue
		}
		text, err := readFile(file.value.String())
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", path, err))
			continue
		}
		secret.value.SetString(strings.TrimRight(string(text), "\r\n"))
		if secret.value.String() == "" {
			errs = append(errs, fmt.Errorf("%s: %s is empty", path, file.value.String()))
		}
	}
	return errors.Join(errs...)
}
