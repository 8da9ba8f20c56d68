package peer

import "os"

// nginxModule is the line that loads Debian's stream module, or nothing where it is not installed.
func nginxModule() string {
	const path = "/usr/lib/nginx/modules/ngx_stream_module.so"
	if _, err := os.Stat(path); err != nil {
		return ""
	}
	return "load_module " + path + ";\n"
}
