package service

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"

	"github.com/seed-7265657e/usher/internal/wire"
)

// tomlFile is the form of a definition that people write. The service's name is
// the file's; service_name may repeat it.
type tomlFile struct {
	ServiceName         string            `toml:"service_name"`
	BinaryPath          string            `toml:"binary_path"`
	Isolation           string            `toml:"isolation"` // "shared" when absent
	ExplicitInstance    string            `toml:"explicit_instance,omitempty"`
	PerVersionBinaryDir string            `toml:"per_version_binary_dir,omitempty"`
	MinVersion          string            `toml:"min_version,omitempty"`
	VersionAllowList    []string          `toml:"version_allow_list,omitempty"`
	Labels              map[string]string `toml:"labels,omitempty"`
	Start               *startTable       `toml:"start,omitempty"` // absent: the broker starts no instance
}

var tomlKeys = []string{
	"service_name", "binary_path", "isolation", "explicit_instance",
	"per_version_binary_dir", "min_version", "version_allow_list", "labels", "start",
}

var startKeys = []string{"mode", "args", "env", "idle", "timeout", "max_instances", "max_per_second", "listen", "address", "notify", "protocol", "handoff_endpoint"}

var isolations = map[string]wire.BrokerIsolation{
	"private":  wire.BrokerIsolation_PRIVATE_BROKER,
	"shared":   wire.BrokerIsolation_SHARED_BROKER,
	"explicit": wire.BrokerIsolation_EXPLICIT_INSTANCE,
}

// ParseIsolation reads "private", "shared" or "explicit". Errors:
// *IsolationError.
func ParseIsolation(word string) (wire.BrokerIsolation, error) {
	i, ok := isolations[word]
	if !ok {
		known := slices.Sorted(maps.Keys(isolations))
		return 0, &IsolationError{Reason: fmt.Sprintf("%q is not one of %s", word, strings.Join(known, ", "))}
	}
	return i, nil
}

// IsolationWord is the word that ParseIsolation reads; for an unknown value, its number.
func IsolationWord(i wire.BrokerIsolation) string {
	for word, isolation := range isolations {
		if isolation == i {
			return word
		}
	}
	return i.String()
}

// decodeTOML reads a TOML definition of the service name. A key that usher does
// not know is an error with its line, since it may be a misspelt limit.
func decodeTOML(name string, content []byte) (*wire.ServiceDefinition, error) {
	f := tomlFile{ServiceName: name, Isolation: "shared"}
	if err := checkKeys(content); err != nil {
		return nil, &DecodeError{Format: "TOML", Err: err}
	}
	if _, err := toml.Decode(string(content), &f); err != nil {
		return nil, &DecodeError{Format: "TOML", Err: err}
	}
	isolation, err := ParseIsolation(f.Isolation)
	if err != nil {
		return nil, err
	}
	return &wire.ServiceDefinition{
		ServiceName:         f.ServiceName,
		BinaryPath:          f.BinaryPath,
		Isolation:           isolation,
		ExplicitInstance:    f.ExplicitInstance,
		PerVersionBinaryDir: f.PerVersionBinaryDir,
		MinVersion:          f.MinVersion,
		VersionAllowList:    f.VersionAllowList,
		Labels:              f.Start.fold(f.Labels),
	}, nil
}

// checkKeys compares keys exactly; the library would accept other spellings of
// upper and lower case.
func checkKeys(content []byte) error {
	var top map[string]toml.Primitive
	meta, err := toml.Decode(string(content), &top)
	if err != nil {
		return err
	}
	for _, key := range meta.Keys() {
		if !slices.Contains(tomlKeys, key[0]) {
			return meta.PrimitiveDecode(top[key[0]], &unknownKey{known: tomlKeys})
		}
	}
	var start map[string]toml.Primitive
	if !meta.IsDefined("start") || meta.PrimitiveDecode(top["start"], &start) != nil {
		return nil // what is no table is judged with the rest
	}
	for key, value := range start {
		if !slices.Contains(startKeys, key) {
			return meta.PrimitiveDecode(value, &unknownKey{known: startKeys})
		}
	}
	return nil
}

// unknownKey refuses every value. The library turns its error into one with the
// key and its line.
type unknownKey struct{ known []string }

func (k *unknownKey) UnmarshalTOML(any) error {
	return errors.New("unknown key; known are " + strings.Join(k.known, ", "))
}

// encodeTOML writes what decodeTOML reads.
func encodeTOML(d *wire.ServiceDefinition) ([]byte, error) {
	start, labels, err := unfold(&Definition{ServiceDefinition: d})
	if err != nil {
		return nil, err
	}
	f := tomlFile{
		ServiceName:         d.ServiceName,
		BinaryPath:          d.BinaryPath,
		Isolation:           IsolationWord(d.Isolation),
		ExplicitInstance:    d.ExplicitInstance,
		PerVersionBinaryDir: d.PerVersionBinaryDir,
		MinVersion:          d.MinVersion,
		VersionAllowList:    d.VersionAllowList,
		Labels:              labels,
		Start:               start,
	}
	var text bytes.Buffer
	enc := toml.NewEncoder(&text)
	enc.Indent = ""
	if err := enc.Encode(f); err != nil {
		return nil, err
	}
	return text.Bytes(), nil
}
