package peer

import (
	"fmt"
	"path/filepath"
	"strings"
)

func limit(program string, s Setup) Command {
	_, listen := split(s.Listen)
	_, backend := split(s.Backend)
	return Command{Args: []string{program, listen, backend, fmt.Sprint(Workers)}}
}

func tcpproxy(program string, s Setup) Command {
	return Command{Args: []string{program, s.Listen, s.Names[0], s.Backend}}
}

// snicket runs with all its features on: probes, which need no word, and an access log with a record per session. The
// load is one address, so what an address may have of unfinished hellos is raised to what all may.
func snicket(program string, s Setup) Command {
	var b strings.Builder
	fmt.Fprintf(&b, "[listeners.https]\naddress = %q\n\n[log]\naccess = %q\n\n[limits]\nmax_hellos_per_ip = 20000\n\n[[routes]]\nname = \"bench\"\nbackends = [%q]\n",
		s.Listen, filepath.Join(s.Dir, "access.log"), s.Backend)
	b.WriteString("hosts = [\n")
	for _, name := range s.Names {
		fmt.Fprintf(&b, "  %q,\n", name)
	}
	b.WriteString("]\n")
	if s.Terminate {
		fmt.Fprintf(&b, "mode = \"terminate\"\n[routes.tls]\ncertificates = [%q]\n", s.Certificate)
	}
	return Command{
		Args:  []string{program, "run", "-c", filepath.Join(s.Dir, "snicket.toml")},
		Files: map[string]string{"snicket.toml": b.String()},
	}
}

func haproxy(program string, s Setup) Command {
	var b strings.Builder
	files := make(map[string]string)
	fmt.Fprintf(&b, `global
    nbthread %d
    maxconn 9500
    maxpipes 200
    ssl-default-bind-ciphersuites TLS_AES_128_GCM_SHA256
    ssl-default-bind-options ssl-min-ver TLSv1.2
    tune.ssl.default-dh-param 2048

defaults
    mode tcp
    option splice-auto
    option tcp-smart-accept
    timeout connect 3s
    timeout client 1h
    timeout server 1h

frontend https
`, Workers)
	if s.Terminate {
		fmt.Fprintf(&b, "    bind %s ssl crt %s\n    default_backend bench\n", s.Listen, s.Certificate)
	} else {
		fmt.Fprintf(&b, "    bind %s\n    tcp-request inspect-delay 5s\n    tcp-request content accept if { req.ssl_hello_type 1 }\n", s.Listen)
		if len(s.Names) == 1 {
			fmt.Fprintf(&b, "    use_backend bench if { req.ssl_sni -i %s }\n", s.Names[0])
		} else {
			fmt.Fprintf(&b, "    use_backend %%[req.ssl_sni,lower,map_str(%s)]\n", filepath.Join(s.Dir, "names.map"))
			var names strings.Builder
			for _, name := range s.Names {
				fmt.Fprintf(&names, "%s bench\n", name)
			}
			files["names.map"] = names.String()
		}
	}
	fmt.Fprintf(&b, "\nbackend bench\n    server b1 %s check inter 2s\n", s.Backend)
	files["haproxy.cfg"] = b.String()
	return Command{Args: []string{program, "-db", "-f", filepath.Join(s.Dir, "haproxy.cfg")}, Files: files}
}

// nginx needs the stream module, which Debian builds as a shared one; a binary that has it built in says so by
// nginx -V and needs no load_module, which is why its absence is not an error here but in nginx.
func nginx(program string, s Setup) Command {
	var b strings.Builder
	files := make(map[string]string)
	b.WriteString(nginxModule())
	fmt.Fprintf(&b, `daemon off;
user %s;
worker_processes %d;
worker_rlimit_nofile 20000;
pid %s;
error_log stderr crit;
events {
    worker_connections 20000;
}
stream {
    access_log off;
    tcp_nodelay on;
    proxy_connect_timeout 3s;
    proxy_timeout 1h;
    upstream bench {
        server %s;
    }
`, s.User, Workers, filepath.Join(s.Dir, "nginx.pid"), s.Backend)
	if s.Terminate {
		fmt.Fprintf(&b, `    server {
        listen %s ssl reuseport backlog=4096;
        ssl_certificate %s;
        ssl_certificate_key %[2]s;
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;
        ssl_session_cache shared:tls:10m;
        ssl_session_tickets on;
        proxy_pass bench;
    }
}
`, s.Listen, s.Certificate)
	} else {
		fmt.Fprintf(&b, "    map_hash_max_size %d;\n    map_hash_bucket_size 128;\n    map $ssl_preread_server_name $chosen {\n", max(2048, 2*len(s.Names)))
		if len(s.Names) == 1 {
			fmt.Fprintf(&b, "        %s bench;\n", s.Names[0])
		} else {
			fmt.Fprintf(&b, "        include %s;\n", filepath.Join(s.Dir, "names.map"))
			var names strings.Builder
			for _, name := range s.Names {
				fmt.Fprintf(&names, "%s bench;\n", name)
			}
			files["names.map"] = names.String()
		}
		fmt.Fprintf(&b, "    }\n    server {\n        listen %s reuseport backlog=4096;\n        ssl_preread on;\n        proxy_pass $chosen;\n    }\n}\n", s.Listen)
	}
	files["nginx.conf"] = b.String()
	return Command{
		Args:  []string{program, "-e", "stderr", "-p", s.Dir, "-c", filepath.Join(s.Dir, "nginx.conf")},
		Files: files,
	}
}

func sniproxy(program string, s Setup) Command {
	var b strings.Builder
	fmt.Fprintf(&b, "user %s\npidfile %s\nerror_log {\n    filename %s\n    priority error\n}\nlistener %s {\n    protocol tls\n    reuseport yes\n    table bench\n}\ntable bench {\n",
		s.User, filepath.Join(s.Dir, "sniproxy.pid"), filepath.Join(s.Dir, "sniproxy.log"), s.Listen)
	for _, name := range s.Names {
		fmt.Fprintf(&b, "    ^%s$ %s\n", strings.ReplaceAll(name, ".", "\\."), s.Backend)
	}
	b.WriteString("}\n")
	return Command{
		Args:  []string{program, "-f", "-c", filepath.Join(s.Dir, "sniproxy.conf")},
		Files: map[string]string{"sniproxy.conf": b.String()},
	}
}

// hitch does not run its workers as root: started by root, it is told another account for them.
func hitch(program string, s Setup) Command {
	listenHost, listenPort := split(s.Listen)
	backendHost, backendPort := split(s.Backend)
	conf := fmt.Sprintf(`frontend = "[%s]:%s"
backend = "[%s]:%s"
workers = %d
backlog = 4096
daemon = off
quiet = on
pem-file = %q
tls-protos = TLSv1.2 TLSv1.3
ciphersuites = "TLS_AES_128_GCM_SHA256"
`, listenHost, listenPort, backendHost, backendPort, Workers, s.Certificate)
	if s.User == "root" {
		conf += "user = \"nobody\"\n"
	}
	return Command{
		Args:  []string{program, "--config", filepath.Join(s.Dir, "hitch.conf")},
		Files: map[string]string{"hitch.conf": conf},
	}
}
