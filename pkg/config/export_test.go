package config

// Tables and KeysOf are the schema, for the test of the reference.
func Tables() []string             { return tables() }
func KeysOf(table string) []string { return keysOf(table) }
