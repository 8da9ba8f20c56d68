package config

// Load reads the configuration in path and the files it includes.
//
// The Problems are all that is wrong, in order of file and line. When their Err is
// not nil the Config holds what could be read: good enough to look for further
// problems in (certificates that do not parse), never to run on. It is never nil.
func Load(path string) (*Config, Problems) {
	return nil, nil
}

// Parse is Load with the text of the main file given; name is how problems call it,
// and relative paths start at its directory. Included files, certificates and
// whatever else the text names are looked for on disk as Load does.
func Parse(name string, text []byte) (*Config, Problems) {
	return nil, nil
}

// Effective returns the configuration as one file with every default written out.
// It loads to the same Config, positions aside.
func (c *Config) Effective() []byte { return nil }
