package deploy

import (
	"fmt"
	"os"
	"strings"

	"go.yaml.in/yaml/v3"
)

// setting is an option that dendrite.yaml sets.
type setting struct {
	// variable is the environment variable that sets it too.
	variable string
	// values has one element unless the option is a list.
	values []string
}

// readSettings lists the options that a configuration file sets.
func readSettings(file string) ([]setting, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if document.Kind != yaml.DocumentNode {
		return nil, fmt.Errorf("%s is empty", file)
	}
	return settingsIn("DENDRITE", document.Content[0]), nil
}

func settingsIn(variable string, node *yaml.Node) []setting {
	switch node.Kind {
	case yaml.MappingNode:
		var all []setting
		for i := 0; i+1 < len(node.Content); i += 2 {
			all = append(all, settingsIn(variable+"_"+strings.ToUpper(node.Content[i].Value), node.Content[i+1])...)
		}
		return all
	case yaml.SequenceNode:
		list := setting{variable: variable}
		for _, element := range node.Content {
			list.values = append(list.values, element.Value)
		}
		return []setting{list}
	}
	return []setting{{variable, []string{node.Value}}}
}
