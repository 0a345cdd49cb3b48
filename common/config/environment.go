package config

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

const (
	envPrefix = "DENDRITE_"
	// envIgnored are variables of the tests.
	envIgnored = "DENDRITE_TEST_"
)

// option is one value of a configuration.
type option struct {
	// path is its place in the YAML file, for instance client_api.writer.max_in_flight.
	path  string
	value reflect.Value
}

// env is the environment variable that sets the option.
func (o option) env() string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(o.path, ".", "_"))
}

// options lists every option of c; setting their values changes c.
func options(c *Dendrite) []option { return within("", reflect.ValueOf(c).Elem()) }

func within(prefix string, v reflect.Value) []option {
	var all []option
	for i := range v.NumField() {
		name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("yaml"), ",")
		path := strings.TrimPrefix(prefix+"."+name, ".")
		if v.Field(i).Kind() == reflect.Struct {
			all = append(all, within(path, v.Field(i))...)
			continue
		}
		all = append(all, option{path, v.Field(i)})
	}
	return all
}

// fromEnvironment sets what the environment has. A variable that looks like an
// option of a section but is none is an error: it is misspelt, and a setting
// that silently does nothing can be dangerous.
func fromEnvironment(c *Dendrite, env []string) error {
	byName := map[string]option{}
	for _, o := range options(c) {
		byName[o.env()] = o
	}
	var errs []error
	for _, variable := range env {
		name, value, _ := strings.Cut(variable, "=")
		if !strings.HasPrefix(name, envPrefix) || strings.HasPrefix(name, envIgnored) {
			continue
		}
		o, ok := byName[name]
		switch {
		case ok:
			if err := o.set(value); err != nil {
				errs = append(errs, fmt.Errorf("the environment variable %s: %w", name, err))
			}
		case inSection(name):
			errs = append(errs, fmt.Errorf("the environment variable %s is no option", name))
		}
	}
	return errors.Join(errs...)
}

// inSection tells whether a variable's name begins with that of a section.
func inSection(name string) bool {
	sections := reflect.TypeFor[Dendrite]()
	return slices.ContainsFunc(reflect.VisibleFields(sections), func(f reflect.StructField) bool {
		return strings.HasPrefix(name, envPrefix+strings.ToUpper(f.Tag.Get("yaml"))+"_")
	})
}

// set reads text: lists of strings are separated by commas, everything else is
// written as in YAML.
func (o option) set(text string) error {
	switch {
	case o.value.Kind() == reflect.String:
		o.value.SetString(text)
		return nil
	case o.value.Type() == reflect.TypeFor[[]string]():
		var list []string
		for part := range strings.SplitSeq(text, ",") {
			if part = strings.TrimSpace(part); part != "" {
				list = append(list, part)
			}
		}
		o.value.Set(reflect.ValueOf(list))
		return nil
	}
	if strings.TrimSpace(text) == "" {
		return errors.New("is empty")
	}
	d := yaml.NewDecoder(strings.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(o.value.Addr().Interface()); err != nil {
		return fmt.Errorf("%q is not a %s: %w", text, o.value.Type(), plain(err))
	}
	return nil
}
