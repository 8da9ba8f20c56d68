package config

// EffectiveWithSecrets is Effective that hides none.
func (c *Config) EffectiveWithSecrets() []byte { return c.effective(writer{secrets: true}) }

// Tables and KeysOf are the schema, for the test of the reference.
func Tables() []string             { return tables() }
func KeysOf(table string) []string { return keysOf(table) }
